"""llama-server's own completions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from localllm.llm.events import Progress, TextDelta
from localllm.llm.infill import Snippet
from localllm.llm.options import parse_options
from localllm.server.errors import BadRequest
from localllm.server.wire.gap import Gap
from localllm.server.wire.native import CompletionBody, InfillBody, NativeReply, selected
from tests.server.events import choice, done, sse, whole


def reply(gap: Gap | None = None, **body: Any) -> NativeReply:
    parsed = CompletionBody(**({"prompt": "Once"} | body))
    return NativeReply("m", parsed, [p if isinstance(p, str) else "" for p in parsed.prompts()], gap)


def test_prompts_are_texts_or_tokens_one_or_several() -> None:
    assert CompletionBody(prompt="a").prompts() == ["a"]
    assert CompletionBody(prompt=[1, 2]).prompts() == [[1, 2]]
    assert CompletionBody(prompt=["a", [1, 2]]).prompts() == ["a", [1, 2]]
    assert [CompletionBody(prompt=p).is_batch for p in ("a", [1, 2], ["a"], [[1]])] == [False, False, True, True]  # type: ignore[arg-type]
    for nothing in ("", []):
        with pytest.raises(BadRequest, match="empty"):
            CompletionBody(prompt=nothing).prompts()
    with pytest.raises(BadRequest, match="65 prompts"):
        CompletionBody(prompt=["a"] * 65).prompts()
    with pytest.raises(ValidationError):
        CompletionBody(prompt=[1, "a", 2])  # type: ignore[list-item]


def test_lengths() -> None:
    assert CompletionBody(prompt="a", n_predict=5).options() == {"max_tokens": 5}
    assert CompletionBody(prompt="a", n_predict=-1).options() == {}
    assert CompletionBody(prompt="a", max_tokens=7).options() == {"max_tokens": 7}
    only_read = CompletionBody(prompt="a", n_predict=0)
    assert only_read.only_reads and only_read.options() == {"max_tokens": 1}


def test_samplers_that_are_not_named_are_off() -> None:
    options = CompletionBody(prompt="a", samplers=["top_k", "top_p", "infill"], top_k=20, min_p=0.3).options()
    assert options["top_k"] == 20 and "top_p" not in options
    assert (options["min_p"], options["temperature"], options["typical_p"]) == (0.0, 1.0, 1.0)
    parse_options(options)


def test_an_empty_grammar_is_none() -> None:
    assert "grammar" not in CompletionBody(prompt="a", grammar="").options()


def test_a_stream_ends_in_everything_there_is_to_know() -> None:
    found = sse(reply(), [Progress(0, 10, 0), TextDelta("upon"), TextDelta(" a"), done("upon a", cause="max_tokens")])
    assert [part["content"] for part in found] == ["upon", " a", ""]
    assert [part["stop"] for part in found] == [False, False, True]
    end = found[-1]
    assert (end["tokens_predicted"], end["tokens_evaluated"], end["timings"]["cache_n"]) == (7, 10, 4)
    assert (end["stop_type"], end["truncated"], end["prompt"], end["model"]) == ("limit", False, "Once", "m")


@pytest.mark.parametrize(
    ("cause", "stop", "expected"),
    [("eos", None, ("eos", "")), ("stop_string", "\n", ("word", "\n")), ("stop_string", ["a", "b"], ("word", "")),
     ("context_full", None, ("limit", "")), ("grammar", None, ("eos", ""))],
)  # fmt: skip
def test_why_it_stopped(cause: str, stop: Any, expected: tuple[str, str]) -> None:
    body = whole(reply(stop=stop), [done("x", cause=cause)])
    assert (body["stop_type"], body["stopping_word"]) == expected


def test_several_prompts_have_a_list_of_answers() -> None:
    answers = whole(reply(prompt=["a", "b"]), [done("y", index=1), done("x")])
    assert [(answer["index"], answer["content"], answer["prompt"]) for answer in answers] == [
        (0, "x", "a"),
        (1, "y", "b"),
    ]


def test_a_prompt_that_is_only_read_has_no_text() -> None:
    events = [TextDelta("x"), done("x")]
    assert (
        whole(reply(n_predict=0), events)["content"] == ""
        and whole(reply(n_predict=0), events)["tokens_predicted"] == 0
    )
    assert [part["content"] for part in sse(reply(n_predict=0), events)] == [""]


def test_probabilities_and_token_ids() -> None:
    events = [TextDelta("up", logprobs=(choice("up", 7, "on"),)), done("up")]
    body = whole(reply(n_probs=2, return_tokens=True), events)
    [entry] = body["completion_probabilities"]
    assert (body["tokens"], entry["id"], entry["token"], entry["bytes"]) == ([7], 7, "up", [117, 112])
    assert [(top["id"], top["token"]) for top in entry["top_logprobs"]] == [(7, "up"), (8, "on")]
    plain = whole(reply(), [TextDelta("up"), done("up")])
    assert plain["tokens"] == [] and "completion_probabilities" not in plain


def test_what_was_left_out_of_a_gap_is_said() -> None:
    body = whole(reply(Gap("a", "b", is_cut=True, n_dropped=9)), [done("x")])
    assert body["truncated"] is True and body["tokens_dropped"] == 9


def test_fields_are_chosen_by_their_paths() -> None:
    answer = {"content": "x", "timings": {"prompt_n": 3}, "stop": True}
    assert selected(answer, ["content", "timings/prompt_n", "missing", "content/deep"]) == {
        "content": "x",
        "timings/prompt_n": 3,
    }
    assert selected(answer, None) is answer
    assert whole(reply(response_fields=["content"]), [done("x")]) == {"content": "x"}


def test_the_prompt_of_an_infill_is_left_of_the_gap() -> None:
    body = InfillBody.model_validate(
        {"input_prefix": "a\n", "prompt": "b", "input_suffix": "c", "input_extra": [{"text": "t", "filename": "f"}]}
    )
    assert body.gap() == Gap("a\nb", "c", (Snippet("t", "f"),), is_cut=True)
    assert InfillBody().gap() == Gap("", "", is_cut=True)
    with pytest.raises(ValidationError):
        InfillBody.model_validate({"input_extra": [{"filename": "f"}]})
