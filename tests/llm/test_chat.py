"""What a caller of `LLM.chat` sees, told by a scripted backend."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from localllm.engine.events import ErrorInfo
from localllm.errors import (
    ContextLengthExceeded,
    DecodeFailed,
    EngineClosed,
    EngineError,
    RequestError,
    TemplateError,
    WorkerCrashed,
)
from localllm.hardware.types import AdapterSpec, LoadOptions
from localllm.llm import LLM, ChatEvent, Done, Progress, TextDelta, load
from tests.scripted_backend import Script, ScriptedBackend, crash


def texts(events: list[ChatEvent], index: int = 0) -> list[str]:
    return [event.text for event in events if isinstance(event, TextDelta) and event.index == index]


def joined_threads(backend: ScriptedBackend) -> bool:
    for thread in backend.threads:
        thread.join(5)
    return not any(thread.is_alive() for thread in backend.threads)


def test_answer_arrives_as_progress_then_text_then_done() -> None:
    events = list(LLM(ScriptedBackend("Hi!")).chat("Hello"))
    assert isinstance(events[0], Progress) and events[0].n_done == events[0].n_total
    assert texts(events) == ["H", "i", "!"]
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.text, done.finish_reason, done.cause, done.usage.completion_tokens) == ("Hi!", "stop", "eos", 3)


def test_detokenize_returns_text_and_replaces_what_is_none() -> None:
    llm = LLM(ScriptedBackend())
    assert llm.detokenize(llm.tokenize("Grüße")) == "Grüße"
    assert llm.detokenize([72, 0xC3]) == "H\N{REPLACEMENT CHARACTER}"


def test_load_takes_adapters_as_paths_pairs_and_specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[LoadOptions] = []

    def open_backend(path: Path, options: LoadOptions, **arguments: object) -> ScriptedBackend:
        seen.append(options)
        return ScriptedBackend()

    monkeypatch.setattr("localllm.runtime.open_backend", open_backend)
    model = tmp_path / "m.gguf"
    model.touch()
    load(str(model), adapters=["a.gguf", Path("b.gguf"), ("c.gguf", 0.5), AdapterSpec(Path("d.gguf"), -1.0)])
    load(str(model))
    assert [(str(spec.path), spec.scale) for spec in seen[0].adapters] == [
        ("a.gguf", 1.0),
        ("b.gguf", 1.0),
        ("c.gguf", 0.5),
        ("d.gguf", -1.0),
    ]
    assert seen[1].adapters == ()


def test_string_and_messages_are_rendered_by_the_models_template() -> None:
    backend = ScriptedBackend()
    llm = LLM(backend)
    llm.ask("Hello")
    llm.ask([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    assert [call.prompt_text for call in backend.calls] == [
        "<user>Hello<assistant>",
        "<system>Be brief.<user>Hello<assistant>",
    ]


def test_generate_continues_text_without_a_template() -> None:
    backend = ScriptedBackend()
    list(LLM(backend).generate("Once upon"))
    assert backend.calls[0].prompt_text == "Once upon"


def test_text_never_splits_a_character() -> None:
    answer = "Grüße, 世界 👩‍🚀!"
    events = list(LLM(ScriptedBackend(answer)).chat("Hello"))
    assert texts(events) == list(answer)


def test_invalid_bytes_become_replacement_characters() -> None:
    done = LLM(ScriptedBackend(Script(b"ok\xff \xe4\xb8!"))).ask("Hello")
    assert done.text == "ok\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}!"


def test_half_a_character_at_the_end_is_left_out() -> None:
    done = LLM(ScriptedBackend(Script("ok 日本"))).ask("Hello", max_tokens=8)
    assert (done.text, done.finish_reason) == ("ok 日", "length")


def test_stop_string_is_never_shown_in_part() -> None:
    events = list(LLM(ScriptedBackend("one EN two END three")).chat("Hello", stop="END"))
    assert "".join(texts(events)) == "one EN two "
    assert isinstance(events[-1], Done)
    assert (events[-1].text, events[-1].cause) == ("one EN two ", "stop_string")


def test_beginning_of_a_stop_string_is_shown_when_the_answer_ends() -> None:
    assert LLM(ScriptedBackend("one EN")).ask("Hello", stop=["END"]).text == "one EN"


def test_max_tokens_ends_with_length() -> None:
    done = LLM(ScriptedBackend("Hello")).ask("Hello", max_tokens=2)
    assert (done.text, done.finish_reason, done.cause) == ("He", "length", "max_tokens")


def test_n_completions_carry_their_index_and_their_own_seed() -> None:
    backend = ScriptedBackend("one", "two", "three")
    events = list(LLM(backend).chat("Hello", n=3, seed=7))
    ends = {event.index: event.text for event in events if isinstance(event, Done)}
    assert ends == {0: "one", 1: "two", 2: "three"}
    assert ["".join(texts(events, index)) for index in range(3)] == ["one", "two", "three"]
    assert [call.request.sampling.seed for call in backend.calls] == [7, 8, 9]


def test_logprobs_come_with_the_text_they_make() -> None:
    events = list(LLM(ScriptedBackend("é!")).chat("Hello", logprobs=2))
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [(delta.text, len(delta.logprobs)) for delta in deltas] == [("é", 2), ("!", 1)]
    choice = deltas[1].logprobs[0]
    assert (choice.chosen.piece, choice.chosen.logprob, len(choice.top)) == (b"!", -0.5, 2)


def test_break_cancels_the_request() -> None:
    backend = ScriptedBackend(Script("word ", endless=True))
    for event in LLM(backend).chat("Hello"):
        if isinstance(event, TextDelta):
            break
    assert backend.calls[0].cancelled.is_set()
    assert joined_threads(backend)


def test_exception_in_the_loop_cancels_every_completion() -> None:
    backend = ScriptedBackend(Script("word ", endless=True))

    def consume() -> None:
        for event in LLM(backend).chat("Hello", n=3):
            if isinstance(event, TextDelta):
                raise KeyError

    with pytest.raises(KeyError):
        consume()
    assert [call.cancelled.is_set() for call in backend.calls] == [True] * 3


def test_closing_the_generator_cancels_the_request() -> None:
    backend = ScriptedBackend(Script("word ", endless=True))
    stream = LLM(backend).chat("Hello")
    next(stream)
    stream.close()
    assert backend.calls[0].cancelled.is_set()


def test_an_iterator_that_is_never_started_asks_nothing_of_the_engine() -> None:
    backend = ScriptedBackend()
    LLM(backend).chat("Hello").close()
    assert backend.calls == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("WorkerCrashed", WorkerCrashed), ("DecodeFailed", DecodeFailed), ("NoSuchClass", EngineError)],
)
def test_error_finish_raises_its_class(kind: str, expected: type[EngineError]) -> None:
    script = Script("partial", error=ErrorInfo(kind, "It broke.", "Mend it."))
    with pytest.raises(expected) as caught:
        LLM(ScriptedBackend(script)).ask("Hello")
    assert (type(caught.value), caught.value.message, caught.value.hint) == (expected, "It broke.", "Mend it.")


def test_text_before_a_crash_is_still_delivered() -> None:
    stream = LLM(ScriptedBackend(crash("par"))).chat("Hello")
    seen = [next(stream) for _ in range(4)]
    with pytest.raises(WorkerCrashed):
        next(stream)
    assert "".join(texts(seen)) == "par"


def test_prompt_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ContextLengthExceeded, match="context 10"):
        LLM(ScriptedBackend(n_ctx=10)).ask("a long question")


def test_failing_submit_cancels_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend(Script("word ", endless=True))
    real = backend.submit

    def submit(*args: object) -> int:
        if len(backend.calls) == 2:
            raise EngineClosed("The engine was shut down.")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "submit", submit)
    with pytest.raises(EngineClosed):
        list(LLM(backend).chat("Hello", n=3))
    assert [call.cancelled.is_set() for call in backend.calls] == [True, True]


def test_bad_messages_and_options_raise_before_iteration() -> None:
    llm = LLM(ScriptedBackend())
    with pytest.raises(RequestError, match=r"messages\[0\]"):
        llm.chat([{"role": "nobody", "content": "x"}])
    with pytest.raises(RequestError, match="temperature"):
        llm.chat("Hello", temperature=-1)
    with pytest.raises(RequestError, match="empty"):
        llm.generate("")


def test_broken_template_is_a_template_error() -> None:
    with pytest.raises(TemplateError):
        LLM(ScriptedBackend(chat_template="{% for %}")).chat("Hello")


@pytest.mark.parametrize(("template", "add_special"), [("<bos>{{ messages[0].content }}", False), ("plain", True)])
def test_bos_is_added_once(template: str, add_special: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend(chat_template=template, bos_text="<bos>", add_bos=True)
    asked: list[bool] = []
    real = backend.tokenize

    def tokenize(text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        asked.append(add_special)
        return real(text, add_special=add_special, parse_special=parse_special)

    monkeypatch.setattr(backend, "tokenize", tokenize)
    LLM(backend).ask("Hello")
    assert asked == [add_special]


def test_ask_refuses_several_completions() -> None:
    with pytest.raises(RequestError, match="one completion"):
        LLM(ScriptedBackend()).ask("Hello", n=2)


def test_close_ends_a_stream_on_another_thread_as_cancelled() -> None:
    llm = LLM(ScriptedBackend(Script("word ", endless=True)))
    started = threading.Event()
    ends: list[str] = []

    def read() -> None:
        for event in llm.chat("Hello"):
            started.set()
            if isinstance(event, Done):
                ends.append(event.finish_reason)

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(5)
    llm.close()
    reader.join(5)
    assert ends == ["cancelled"]


def test_context_manager_closes_the_backend() -> None:
    backend = ScriptedBackend()
    with LLM(backend) as llm:
        assert llm.info.name == "scripted"
        assert llm.stats().n_requests == 0
        assert llm.tokenize("ab") == [97, 98]
    assert backend.closed
