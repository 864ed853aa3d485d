"""Point 8: what a conversation may look like."""

from __future__ import annotations

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import TOOLS, conversation_with_result, text_part, user
from localllm.conformance.target import Target

_PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # noqa: E501


@check(8)
async def content_as_parts(target: Target) -> None:
    """`content` as parts is the same prompt as a string."""
    whole = await target.n_prompt_tokens([user("Name a colour.")])
    parts = await target.n_prompt_tokens([user([text_part("Name a colour.")])])
    expect_equal("the prompt's tokens", parts, whole)


@check(8)
async def several_parts(target: Target) -> None:
    """Several text parts are all read."""
    one = await target.n_prompt_tokens([user([text_part("Name a colour.")])])
    two = await target.n_prompt_tokens([user([text_part("Name a colour."), text_part("And name a bird, please.")])])
    expect(two >= one + 4, "more tokens with a second part", f"{one} and {two}")


@check(8)
async def null_content(target: Target) -> None:
    """An assistant's `content` may be null, beside tool calls and alone."""
    await target.chat([user("Hi."), {"role": "assistant", "content": None}, user("Go on.")], max_tokens=2)
    await target.chat(conversation_with_result("call_1", "call_1"), max_tokens=2)


@check(8)
async def missing_content_beside_calls(target: Target) -> None:
    """`content` may be missing beside tool calls."""
    conversation = conversation_with_result("call_1", "call_1")
    del conversation[1]["content"]
    await target.chat(conversation, max_tokens=2)


@check(8)
async def empty_content(target: Target) -> None:
    """`content` may be an empty string."""
    await target.chat([user("Hi."), {"role": "assistant", "content": ""}, user("Go on.")], max_tokens=2)


@check(8)
async def role_developer(target: Target) -> None:
    """The role `developer` is accepted, and read."""
    alone = await target.n_prompt_tokens([{"role": "system", "content": "x"}, user("Hi.")])
    order = {"role": "developer", "content": "Always answer in the most formal French, whatever the question is."}
    with_order = await target.n_prompt_tokens([order, user("Hi.")])
    expect(with_order >= alone + 8, "the order to be part of the prompt", f"{alone} and {with_order} tokens")


@check(8)
async def late_system_message(target: Target) -> None:
    """A system message that is not the first is accepted, and read."""
    start = [{"role": "system", "content": "Be brief."}, user("Hi."), {"role": "assistant", "content": "Hello."}]
    without = await target.n_prompt_tokens([*start, user("Bye.")])
    late = {"role": "system", "content": "From now on, answer in the most formal French, whatever the question is."}
    with_late = await target.n_prompt_tokens([*start, late, user("Bye.")])
    expect(with_late >= without + 8, "it to be part of the prompt", f"{without} and {with_late} tokens")


@check(8)
async def tool_results(target: Target) -> None:
    """A tool's result may be a string or parts, with the same prompt."""
    text = await target.n_prompt_tokens(conversation_with_result("call_1", "call_1", "It is done."), tools=TOOLS)
    conversation = conversation_with_result("call_1", "call_1")
    conversation[2]["content"] = [text_part("It is done.")]
    parts = await target.n_prompt_tokens(conversation, tools=TOOLS)
    expect_equal("the prompt's tokens", parts, text)


@check(8)
async def results_of_two_calls(target: Target) -> None:
    """Two calls in one message, and a result for each, are accepted."""
    conversation = conversation_with_result("call_1", "call_1")
    second = {**conversation[1]["tool_calls"][0], "id": "call_2"}
    conversation[1]["tool_calls"].append(second)
    conversation.append({"role": "tool", "tool_call_id": "call_2", "content": "Done, too."})
    await target.chat(conversation, max_tokens=2, tools=TOOLS)


@check(8)
async def names_and_unknown_keys(target: Target) -> None:
    """A message may have a `name`, and keys that nobody knows."""
    message: Json = {"role": "user", "name": "ada", "content": "Hi.", "refusal": None, "annotations": []}
    await target.chat([message], max_tokens=2)


@check(8)
async def pictures_are_not_dropped(target: Target) -> None:
    """A picture is read, or refused with HTTP 400; never dropped in silence."""
    parts = [text_part("What is this?"), {"type": "image_url", "image_url": {"url": _PIXEL}}]
    answer = await target.post_chat([user(parts)], max_tokens=1)
    if answer.status == 200:
        without = await target.n_prompt_tokens([user("What is this?")])
        seen = answer.json["usage"]["prompt_tokens"]
        expect(seen > without, "a longer prompt with the picture", f"{without} and {seen} tokens")
    else:
        expect(answer.status == 400, "HTTP 200 or 400", f"HTTP {answer.status}: {answer.text}")


@check(8)
async def unknown_role_is_refused(target: Target) -> None:
    """A role that there is not is HTTP 400."""
    answer = await target.post_chat([{"role": "wizard", "content": "Hi."}])
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(8)
async def no_messages_are_refused(target: Target) -> None:
    """An empty conversation is HTTP 400."""
    answer = await target.post_chat([])
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")
