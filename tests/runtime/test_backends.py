"""What both backends do alike: in this process, and in a worker."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.engine import FinishEvent, PrefillProgress, SamplingParams, TokenEvent
from localllm.errors import (
    ContextLengthExceeded,
    EngineClosed,
    InvalidGrammar,
    InvalidModelFile,
    ModelLoadFailed,
    ModelNotFound,
    RequestError,
    UnsupportedModel,
)
from localllm.hardware.types import LoadOptions
from localllm.runtime import Backend, GrammarSpec, TextControls
from tests.runtime.conftest import OPTIONS, Record, generate, request
from tests.tiny_model import CHATML, vocabulary, write_tiny_model

MakeBackend = Callable[..., Backend]


def test_info_describes_the_model(backend: Backend, tiny_path: Path) -> None:
    info = backend.info
    assert (info.path, info.name, info.architecture) == (str(tiny_path), "tiny", "llama")
    assert (info.n_ctx, info.n_ctx_train, info.n_slots, info.n_vocab) == (1024, 1024, 4, len(vocabulary()))
    assert info.n_cells >= info.n_ctx and info.n_params > 0 and info.size_bytes > 0 and info.load_s > 0
    assert (info.bos_text, info.eos_text, info.chat_template) == ("<|im_start|>", "<|im_end|>", CHATML)


def test_progress_is_reported(make_backend: MakeBackend) -> None:
    shares: list[float] = []
    make_backend(on_progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)


def test_exception_in_progress_ends_the_load(make_backend: MakeBackend) -> None:
    def fail(share: float) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        make_backend(on_progress=fail)


@pytest.mark.parametrize("text", ["", "Hello the world", "a\0b", "\ud800", "日本語 🙂" * 1000])
def test_tokenizes(backend: Backend, text: str) -> None:
    tokens = backend.tokenize(text, add_special=False, parse_special=False)
    assert len(tokens) <= len(text.encode("utf-8", "replace"))
    assert (tokens == []) == (text == "")


def test_special_text_is_parsed_on_request(backend: Backend) -> None:
    assert backend.tokenize("<|im_end|>", add_special=False, parse_special=True) == [vocabulary().index("<|im_end|>")]
    assert len(backend.tokenize("<|im_end|>", add_special=False, parse_special=False)) > 1


@pytest.mark.parametrize("text", ["", "Hello the world", "a\0b", "日本語 🙂" * 100, "<|im_start|>user"])
def test_detokenizes_what_it_tokenized(backend: Backend, text: str) -> None:
    tokens = backend.tokenize(text, add_special=False, parse_special=True)
    assert backend.detokenize(tokens) == text.encode()


@pytest.mark.parametrize("tokens", [[10**6], [1, -1], [10**30]])
def test_detokenizing_a_foreign_token_is_refused(backend: Backend, tokens: list[int]) -> None:
    with pytest.raises(RequestError, match="outside 0 to"):
        backend.detokenize(tokens)


@pytest.mark.parametrize("prompt", [(10**6,), (1, -1), (-(10**30),)])
def test_prompt_of_foreign_tokens_is_refused(backend: Backend, prompt: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="outside 0 to"):
        generate(backend, request(prompt=prompt))
    assert generate(backend, request(max_tokens=2)).wait().reason == "length"


def test_events_come_in_order_and_end_once(backend: Backend) -> None:
    record = generate(backend, request(max_tokens=12))
    kinds = [type(event) for event in record.events]
    assert kinds == [PrefillProgress] + [TokenEvent] * 12 + [FinishEvent]
    finish = record.wait()
    assert (finish.reason, finish.cause, finish.error) == ("length", "max_tokens", None)
    assert (finish.usage.prompt_tokens, finish.usage.completion_tokens) == (2, 12)
    assert len({event.request_id for event in record.events}) == 1


def test_same_request_gives_same_tokens_in_both(tiny_path: Path) -> None:
    from localllm.runtime import open_backend

    runs = []
    for in_process in (True, False):
        backend = open_backend(tiny_path, OPTIONS, in_process=in_process)
        runs.append(generate(backend, request(max_tokens=40, sampling=SamplingParams(seed=5))).tokens)
        backend.close()
    assert runs[0] == runs[1]


def test_logprobs_cross(backend: Backend) -> None:
    record = generate(backend, request(max_tokens=2, n_logprobs=3))
    tokens = [event for event in record.events if isinstance(event, TokenEvent)]
    assert all(event.logprob is not None and event.logprob <= 0 for event in tokens)
    assert all(len(event.top_logprobs) == 3 for event in tokens)
    assert tokens[0].top_logprobs[0].token == tokens[0].token


def test_logit_bias_crosses_with_minus_infinity(backend: Backend) -> None:
    first = generate(backend, request(max_tokens=1)).tokens[0]
    biased = SamplingParams(temperature=0, logit_bias={first: -float("inf"), 7: 1000.0})
    assert generate(backend, request(max_tokens=1, sampling=biased)).tokens == [7]


def test_cancel_ends_with_that_reason(backend: Backend) -> None:
    record = Record()
    request_id = backend.submit(request(max_tokens=None), TextControls(), record)
    backend.cancel(request_id)
    assert record.wait().reason in ("cancelled", "length")
    backend.cancel(request_id)
    backend.cancel(999_999)


def test_sink_may_cancel(backend: Backend) -> None:
    class CancelAtThird(Record):
        def __call__(self, event: object) -> None:
            super().__call__(event)  # type: ignore[arg-type]
            if isinstance(event, TokenEvent) and len(self.tokens) == 3:
                backend.cancel(event.request_id)

    record = CancelAtThird()
    backend.submit(request(max_tokens=900), TextControls(), record)
    assert record.wait().reason == "cancelled"
    assert len(record.tokens) < 900


def test_failing_sink_hurts_nobody_else(backend: Backend) -> None:
    def fail(event: object) -> None:
        raise ZeroDivisionError

    backend.submit(request(max_tokens=900), TextControls(), fail)
    assert generate(backend, request()).wait().reason == "length"


def test_stop_string_ends(backend: Backend) -> None:
    whole = generate(backend, request(max_tokens=200)).data
    words = re.findall(rb"[a-zA-Z]{2,}", whole)
    stop = words[0].decode()
    record = generate(backend, request(max_tokens=200), TextControls(stop=(stop,)))
    finish = record.wait()
    assert (finish.reason, finish.cause) == ("stop", "stop_string")
    assert stop.encode() in record.data and len(record.data) < len(whole)


@pytest.mark.parametrize(
    ("kind", "text", "pattern"),
    [
        ("regex", "[a-c]{5}", rb"[a-c]{5}"),
        ("gbnf", 'root ::= "wor" [0-9] [0-9]', rb"wor[0-9]{2}"),
        ("lark", 'start: "x" /[yz]{3}/', rb"x[yz]{3}"),
        ("json_schema", '{"type": "boolean"}', rb"\s*(true|false)\s*"),
    ],
)
def test_grammar_holds(backend: Backend, kind: str, text: str, pattern: bytes) -> None:
    record = generate(backend, request(max_tokens=60, ignore_eos=False), TextControls(grammar=GrammarSpec(kind, text)))
    assert re.fullmatch(pattern, record.data), record.data
    assert record.wait().reason == "stop"


def test_grammar_and_forbidding_bias_fail_that_request_alone(backend: Backend) -> None:
    only_a = TextControls(grammar=GrammarSpec("regex", "a{50}"))
    bias = dict.fromkeys((token for token, text in enumerate(vocabulary()) if "a" in text), -float("inf"))
    other = Record()
    backend.submit(request(max_tokens=200), TextControls(), other)
    for temperature in (0.0, 1.0):
        sampling = SamplingParams(temperature=temperature, logit_bias=bias, seed=1)
        finish = generate(backend, request(max_tokens=20, sampling=sampling), only_a).wait()
        assert finish.reason == "error" and finish.error is not None
        assert finish.error.kind in ("InvalidGrammar", "RequestError")
    assert other.wait().reason == "length"
    assert generate(backend, request()).wait().reason == "length"


def test_grammar_that_is_done_with_ignored_eos_ends(backend: Backend) -> None:
    record = generate(backend, request(max_tokens=20), TextControls(grammar=GrammarSpec("regex", "[ab]{3}c?")))
    assert record.wait().reason in ("stop", "error")
    assert re.match(rb"[ab]{3}", record.data)


def bad_requests() -> dict[str, tuple[dict[str, object], TextControls, type[RequestError]]]:
    return {
        "empty prompt": ({"prompt": ()}, TextControls(), RequestError),
        "long prompt": ({"prompt": (1,) * 1024}, TextControls(), ContextLengthExceeded),
        "foreign token": ({"prompt": (10**6,)}, TextControls(), RequestError),
        "negative token": ({"prompt": (-1,)}, TextControls(), RequestError),
        "no tokens": ({"max_tokens": 0}, TextControls(), RequestError),
        "logprobs": ({"n_logprobs": 99}, TextControls(), RequestError),
        "temperature": ({"sampling": SamplingParams(temperature=float("nan"))}, TextControls(), RequestError),
        "bias": ({"sampling": SamplingParams(logit_bias={-5: 1.0})}, TextControls(), RequestError),
        "schema": ({}, TextControls(grammar=GrammarSpec("json_schema", "{")), InvalidGrammar),
        "kind": ({}, TextControls(grammar=GrammarSpec("prose", "x")), InvalidGrammar),
        "regex": ({}, TextControls(grammar=GrammarSpec("regex", "(")), InvalidGrammar),
        "surrogate": ({}, TextControls(grammar=GrammarSpec("gbnf", "\ud800")), InvalidGrammar),
        "stop": ({}, TextControls(stop=("",)), RequestError),
    }


@pytest.mark.parametrize("case", bad_requests())
def test_bad_requests_are_refused_with_a_hint(backend: Backend, case: str) -> None:
    fields, controls, kind = bad_requests()[case]
    record = Record()
    with pytest.raises(kind) as caught:
        backend.submit(request(**fields), controls, record)  # type: ignore[arg-type]
    assert type(caught.value) is kind and caught.value.hint
    assert generate(backend, request()).wait().reason == "length"
    assert record.events == []


def test_lone_surrogates_in_controls_are_no_crash(backend: Backend) -> None:
    sampling = SamplingParams(temperature=0, dry_multiplier=0.5, dry_sequence_breakers=("\udc00", "x"))
    record = generate(backend, request(sampling=sampling), TextControls(stop=("\ud800never",)))
    assert record.wait().reason == "length"


def test_dry_looks_back_over_everything_by_default(backend: Backend) -> None:
    loop = (3, 4, 5, 6) * 20
    plain = generate(backend, request(*loop, max_tokens=1)).tokens[0]
    target = SamplingParams(temperature=0, logit_bias={3: 50.0})
    assert generate(backend, request(*loop, max_tokens=1, sampling=target)).tokens == [3]
    dry = SamplingParams(temperature=0, logit_bias={3: 50.0}, dry_multiplier=1000.0)
    assert generate(backend, request(*loop, max_tokens=1, sampling=dry)).tokens == [plain]


def test_stats_count(make_backend: MakeBackend) -> None:
    backend = make_backend()
    generate(backend, request(max_tokens=5))
    stats = backend.stats()
    assert (stats.n_running, stats.n_waiting, stats.n_requests, stats.n_finished) == (0, 0, 1, 1)
    assert stats.n_samplers >= 0 and stats.n_steps >= 5


def test_many_threads_submit_at_once(backend: Backend) -> None:
    records: list[tuple[tuple[int, ...], Record]] = []
    lock = threading.Lock()

    def run(number: int) -> None:
        for turn in range(3):
            prompt = (number, turn, 39)
            record = generate(backend, request(*prompt, max_tokens=6))
            with lock:
                records.append((prompt, record))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 36
    assert all(len(record.tokens) == 6 and record.wait().reason == "length" for _, record in records)


def test_close_twice_and_use_after_close(make_backend: MakeBackend) -> None:
    backend = make_backend()
    backend.close()
    backend.close()
    for use in (
        lambda: backend.submit(request(), TextControls(), Record()),
        lambda: backend.tokenize("x", add_special=False, parse_special=False),
        lambda: backend.detokenize([1]),
        backend.stats,
    ):
        with pytest.raises(EngineClosed):
            use()
    backend.cancel(1)
    assert backend.info.name == "tiny"


def test_close_cancels_what_runs(make_backend: MakeBackend, slow_path: Path) -> None:
    backend = make_backend(slow_path, LoadOptions(n_ctx=8192, n_threads=1, gpu_layers=0))
    record = Record()
    backend.submit(request(max_tokens=None), TextControls(), record)
    record.wait_for_token()
    backend.close()
    assert record.wait().reason == "cancelled"


def test_close_while_others_call(make_backend: MakeBackend) -> None:
    backend = make_backend()
    faults: list[BaseException] = []
    go = threading.Barrier(5)

    def hammer() -> None:
        go.wait()
        try:
            while True:
                backend.tokenize("Hello the world " * 50, add_special=False, parse_special=False)
        except EngineClosed:
            pass
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    go.wait()
    backend.close()
    for thread in threads:
        thread.join(30)
    assert faults == [] and not any(thread.is_alive() for thread in threads)


def test_missing_damaged_and_unknown_models(make_backend: MakeBackend, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        make_backend(tmp_path / "none.gguf")
    path = write_tiny_model(tmp_path / "m.gguf", n_ctx=1024)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidModelFile, match="truncated"):
        make_backend(path)
    path.write_bytes(whole.replace(b"llama", b"lxama"))
    with pytest.raises(UnsupportedModel):
        make_backend(path)
    path.write_bytes(whole.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))
    with pytest.raises(ModelLoadFailed, match=r"blk\.1\.ffn_up"):
        make_backend(path)


def test_model_without_a_tokenizer_is_unsupported(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", n_ctx=1024, extra={"llama.vocab_size": len(vocabulary())})
    key = b"tokenizer.ggml.model" + (8).to_bytes(4, "little")
    data = path.read_bytes()
    at = data.index(key) + len(key)
    path.write_bytes(data[:at] + (4).to_bytes(8, "little") + b"none" + data[at + 12 :])
    with pytest.raises((UnsupportedModel, ModelLoadFailed)):
        make_backend(path)


@pytest.mark.skipif(os.name != "posix", reason="names that are not text")
def test_file_name_need_not_be_text(make_backend: MakeBackend, tmp_path: Path, tiny_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.gguf"))
    path.write_bytes(tiny_path.read_bytes())
    assert make_backend(path).info.path == str(path)


def test_large_prompt_crosses(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", n_layer=1, n_embd=32, n_head=1, n_ff=32, n_ctx=65536)
    backend = make_backend(path, LoadOptions(n_ctx=32768, n_threads=1, gpu_layers=0))
    text = "日本語 the world " * 20000
    tokens = backend.tokenize(text, add_special=False, parse_special=False)
    assert len(tokens) > 200_000
    with pytest.raises(ContextLengthExceeded, match=r"\d+ tokens"):
        backend.submit(request(*tokens), TextControls(), Record())
    record = generate(backend, request(*tokens[:6000], max_tokens=2))
    assert record.wait().usage.prompt_tokens == 6000
