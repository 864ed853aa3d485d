"""Point 9: thoughts, apart from the answer."""

from __future__ import annotations

from typing import Any

from localllm.conformance.check import NotApplicable, check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import HELLO
from localllm.conformance.target import Target

_ON: Json = {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 48}
_OFF: Json = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 48}


def _need_thoughts(target: Target) -> None:
    if not target.thinks:
        raise NotApplicable("the model does not think")


async def _message(target: Target, **fields: Any) -> Json:
    _need_thoughts(target)
    return dict((await target.chat(HELLO, **fields))["choices"][0]["message"])


@check(9)
async def both_names_whole(target: Target) -> None:
    """Thoughts are in `reasoning_content` and in `reasoning`; clients split between the two."""
    message = await _message(target, **_ON)
    expect(bool(message.get("reasoning_content")), "reasoning_content", sorted(message))
    expect_equal("reasoning", message.get("reasoning"), message["reasoning_content"])


@check(9)
async def both_names_streamed(target: Target) -> None:
    """So they are in the deltas of a stream."""
    _need_thoughts(target)
    deltas = (await target.stream(HELLO, **_ON)).deltas()
    thoughts = [delta for delta in deltas if delta.get("reasoning_content") or delta.get("reasoning")]
    expect(len(thoughts) >= 2, "several deltas with thoughts", deltas[:3])
    expect(all(d.get("reasoning") == d.get("reasoning_content") for d in thoughts), "both names in each", thoughts[0])


@check(9)
async def no_tags_in_the_answer(target: Target) -> None:
    """Neither thoughts nor answer hold the tags that part them."""
    message = await _message(target, **_ON)
    texts = f"{message.get('content')} {message.get('reasoning_content')}"
    expect("think>" not in texts, "no <think> or </think>", texts)


@check(9)
async def enable_thinking_false(target: Target) -> None:
    """chat_template_kwargs.enable_thinking false means no thoughts."""
    message = await _message(target, **_OFF)
    expect(not message.get("reasoning_content"), "no thoughts", message.get("reasoning_content"))
    expect(bool(message.get("content")), "an answer", message)


@check(9)
async def reasoning_effort_none(target: Target) -> None:
    """reasoning_effort `none` means no thoughts."""
    message = await _message(target, chat_template_kwargs=None, reasoning_effort="none", max_tokens=48)
    expect(not message.get("reasoning_content"), "no thoughts", message.get("reasoning_content"))


@check(9)
async def reasoning_effort_high(target: Target) -> None:
    """reasoning_effort `high` means thoughts."""
    message = await _message(target, chat_template_kwargs=None, reasoning_effort="high", max_tokens=48)
    thought = message.get("reasoning_content") or message.get("reasoning")
    expect(bool(thought), "thoughts", message)


@check(9)
async def effort_is_accepted(target: Target) -> None:
    """reasoning_effort is accepted by every model, thinking or not."""
    for effort in ("low", "medium", "high"):
        await target.ask(HELLO, reasoning_effort=effort, max_tokens=2)


@check(9)
async def template_kwargs_are_accepted(target: Target) -> None:
    """chat_template_kwargs.enable_thinking is accepted by every model, thinking or not."""
    for thinking in (True, False):
        await target.chat(HELLO, chat_template_kwargs={"enable_thinking": thinking}, max_tokens=2)


@check(9)
async def accepted_in_history(target: Target) -> None:
    """An earlier answer may carry its thoughts under either name, or under both."""
    for names in (("reasoning_content",), ("reasoning",), ("reasoning_content", "reasoning")):
        answer = {"role": "assistant", "content": "Hello.", **dict.fromkeys(names, "They greet me.")}
        conversation = [{"role": "user", "content": "Hi."}, answer, {"role": "user", "content": "Bye."}]
        await target.chat(conversation, max_tokens=2)
