"""The probabilities of an answer that is there already are those that it was written with."""

from __future__ import annotations

import math

import pytest

from localllm import load
from localllm.errors import RequestError
from localllm.llm import LLM, TextDelta, TokenChoice
from tests.scripted_backend import ScriptedBackend

QUESTION = {"role": "user", "content": "Name three colours."}


async def score(llm: LLM, answer: str, n_top: int = 3) -> list[TokenChoice]:
    messages = [QUESTION, {"role": "assistant", "content": answer}]
    return [choice async for choice in llm.ascore(messages, n_top=n_top)]


async def test_the_prompt_ends_before_the_answer_and_every_token_of_it_is_forced() -> None:
    backend = ScriptedBackend("red")
    choices = await score(LLM(backend), "red")
    (call,) = backend.calls
    assert call.prompt_text.endswith("<assistant>")
    assert call.controls.reasoning is not None and bytes(call.controls.reasoning.ending) == b"red"
    assert (call.request.max_tokens, call.request.n_logprobs, call.request.spec) == (3, 3, "off")
    assert b"".join(choice.chosen.piece for choice in choices) == b"red"


async def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(RequestError):
        await score(LLM(ScriptedBackend()), "")


async def test_answer_tokens_are_the_head_and_the_answer() -> None:
    messages = [QUESTION, {"role": "assistant", "content": "red"}]
    head, answer = LLM(ScriptedBackend()).answer_tokens(messages)
    assert bytes(head).endswith(b"<assistant>") and bytes(answer) == b"red"


@pytest.mark.real
async def test_a_known_answer_scores_as_when_it_was_written() -> None:
    with load(n_ctx=512) as llm:
        written = [
            choice
            async for event in llm.achat([QUESTION], temperature=1.0, seed=3, logprobs=3, max_tokens=24, spec="off")
            if isinstance(event, TextDelta)
            for choice in event.logprobs
        ]
        text = b"".join(choice.chosen.piece for choice in written).decode()
        again = await score(llm, text)
    assert [choice.chosen.token for choice in again] == [choice.chosen.token for choice in written]
    for ours, theirs in zip(again, written, strict=True):
        assert math.isclose(ours.chosen.logprob, theirs.chosen.logprob, abs_tol=0.05)
        assert ours.top[0].token == theirs.top[0].token or abs(ours.top[0].logprob - theirs.top[0].logprob) < 0.05
