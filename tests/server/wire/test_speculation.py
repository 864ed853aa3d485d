"""Speculation on the wire: asked for by request, reported in usage and timings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from localllm.engine.events import Speculation, Usage
from localllm.server.wire.chat import ChatCompletionRequest
from localllm.server.wire.completions import CompletionRequest
from localllm.server.wire.native import CompletionBody
from localllm.server.wire.usage import llama_timings, openai_usage
from tests.server.events import TIMINGS, done


def used(drafted: int, accepted: int, speedup: float) -> Usage:
    report = Speculation(kind="ngram", drafted=drafted, accepted=accepted, speedup_est=speedup)
    return Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4, speculation=report)


def test_usage_adds_up_what_drafts_did_for_all_completions() -> None:
    usage = openai_usage([done(usage=used(20, 15, 1.5)), done(usage=used(10, 5, 1.1))])
    assert usage["speculation"] == {"kind": "ngram", "drafted": 30, "accepted": 20, "speedup_est": pytest.approx(1.3)}


def test_usage_says_nothing_where_speculation_was_off() -> None:
    assert "speculation" not in openai_usage([done()])
    assert "draft_n" not in llama_timings(done().usage, TIMINGS)


def test_timings_count_drafts_as_llama_server_does() -> None:
    timings = llama_timings(used(20, 15, 1.5), TIMINGS)
    assert (timings["draft_n"], timings["draft_n_accepted"]) == (20, 15)


@pytest.mark.parametrize(
    "body",
    [
        ChatCompletionRequest(messages=[{"role": "user", "content": "Hi"}], spec="off"),  # type: ignore[list-item]
        CompletionRequest(prompt="Hi", spec="off"),
        CompletionBody(prompt="Hi", spec="off"),
    ],
)
def test_spec_reaches_the_options(body: ChatCompletionRequest | CompletionRequest | CompletionBody) -> None:
    assert body.sampling_options()["spec"] == "off"
    assert body.model_copy(update={"spec": None}).sampling_options().get("spec") is None


def test_unknown_spec_is_refused() -> None:
    with pytest.raises(ValidationError):
        CompletionBody(prompt="Hi", spec="always")  # type: ignore[arg-type]


def test_lookahead_may_be_asked_for_by_name() -> None:
    assert CompletionRequest(prompt="Hi", spec="lookahead").sampling_options()["spec"] == "lookahead"
