"""Point 3: tool_choice and parallel_tool_calls are enforced."""

from __future__ import annotations

import json
from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COLOURS, HELLO, LONG_NOTE, PAINT, TOOLS, named, tool
from localllm.conformance.target import Target


async def _calls(target: Target, prompt: str, **fields: Any) -> list[Json]:
    """Return the calls of an answer."""
    await target.need_tools()
    answer = await target.chat(prompt, **{"tools": TOOLS, "max_tokens": 300, **fields})
    return [call["function"] for call in answer["choices"][0]["message"].get("tool_calls") or []]


@check(3)
async def none_never_calls(target: Target) -> None:
    """`none` never calls, however much the prompt asks for it."""
    await target.need_tools()
    prompt = "Call the tool paint_wall with the colour teal. Answer with the call only."
    message = (await target.chat(prompt, tools=TOOLS, tool_choice="none", max_tokens=60))["choices"][0]["message"]
    expect(not message.get("tool_calls"), "no call", message.get("tool_calls"))
    expect(bool(message.get("content")), "a text", message)


@check(3)
async def required_always_calls(target: Target) -> None:
    """`required` calls one of the tools, also where the prompt asks for none."""
    answer = await target.post_chat("Just say hello.", tools=TOOLS, tool_choice="required", max_tokens=300)
    called = answer.ok()["choices"][0]["message"].get("tool_calls") or []
    expect(len(called) >= 1, "a call", answer.json["choices"][0]["message"])
    names = {call["function"]["name"] for call in called}
    expect(names <= {"paint_wall", "save_note"}, "one of the tools that there are", names)


@check(3)
async def named_function_is_called(target: Target) -> None:
    """A named function is called, and no other, whatever the prompt asks for."""
    for name, prompt in (("save_note", "Paint the wall in teal."), ("paint_wall", "Save a note, please.")):
        calls = await _calls(target, prompt, tool_choice=named(name), parallel_tool_calls=False)
        expect_equal("the names called", [call["name"] for call in calls], [name])


@check(3)
async def named_function_streamed(target: Target) -> None:
    """So it is in a stream."""
    await target.need_tools()
    fields = {"tools": TOOLS, "tool_choice": named("save_note"), "parallel_tool_calls": False, "max_tokens": 200}
    deltas = (await target.stream("Paint the wall in teal.", **fields)).tool_deltas()
    names = [d["function"]["name"] for d in deltas if d.get("function", {}).get("name")]
    expect_equal("the names called", names, ["save_note"])


@check(3)
async def auto_may_answer_or_call(target: Target) -> None:
    """`auto` answers or calls, and the finish reason says which."""
    await target.need_tools()
    choice = (await target.chat(HELLO, tools=TOOLS, tool_choice="auto", max_tokens=60))["choices"][0]
    called = bool(choice["message"].get("tool_calls"))
    allowed = ("tool_calls", "length") if called else ("stop", "length")
    expect(choice["finish_reason"] in allowed, f"one of {allowed}", choice["finish_reason"])
    expect(called or bool(choice["message"].get("content")), "a text or a call", choice["message"])


@check(3)
async def arguments_obey_the_schema(target: Target) -> None:
    """Arguments obey the tool's schema: enums, whole numbers, nesting, required keys."""
    order = tool(
        "order",
        "Order paint.",
        colour={"type": "string", "enum": list(COLOURS)},
        litres={"type": "integer", "enum": [7, 11]},
        where={"type": "object", "properties": {"floor": {"enum": [3]}}, "required": ["floor"]},
    )
    fields = {"tools": [order], "tool_choice": named("order"), "parallel_tool_calls": False}
    [call] = await _calls(target, "Order paint.", **fields)
    arguments = json.loads(call["arguments"])
    expect(arguments.get("colour") in COLOURS, f"one of {COLOURS}", arguments)
    expect(arguments.get("litres") in (7, 11), "litres 7 or 11", arguments)
    expect_equal("the floor", arguments.get("where", {}).get("floor"), 3)


@check(3)
async def tools_without_parameters(target: Target) -> None:
    """A tool without parameters can be called; its arguments are {}."""
    bare = {"type": "function", "function": {"name": "ring_bell", "description": "Ring the bell."}}
    fields = {"tools": [bare], "tool_choice": named("ring_bell"), "parallel_tool_calls": False}
    [call] = await _calls(target, HELLO, **fields)
    expect_equal("the arguments", json.loads(call["arguments"] or "{}"), {})


@check(3)
async def not_in_parallel(target: Target) -> None:
    """With parallel_tool_calls false there is one call, however many are asked for."""
    prompt = "Paint three walls: one teal, one ochre, one mauve. Call paint_wall three times."
    calls = await _calls(target, prompt, tool_choice="required", parallel_tool_calls=False)
    expect_equal("the number of calls", len(calls), 1)


@check(3)
async def in_parallel(target: Target) -> None:
    """parallel_tool_calls true is accepted; calls have different indexes and ids."""
    await target.need_tools()
    fields = {"tools": [PAINT], "tool_choice": "required", "parallel_tool_calls": True, "max_tokens": 120}
    deltas = (await target.stream("Paint three walls: teal, ochre, mauve.", **fields)).tool_deltas()
    starts = [(d.get("index"), d.get("id")) for d in deltas if d.get("id")]
    expect(bool(starts), "a call", deltas)
    expect_equal("the indexes", [index for index, _ in starts], list(range(len(starts))))
    expect(len({name for _, name in starts}) == len(starts), "an id for each call", starts)


@check(3)
async def unknown_function_is_refused(target: Target) -> None:
    """Naming a function that is not among the tools is HTTP 400."""
    await target.need_tools()
    answer = await target.post_chat(HELLO, tools=TOOLS, tool_choice=named("fly_away"))
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(3)
async def unknown_choice_is_refused(target: Target) -> None:
    """A tool_choice that there is not is HTTP 400."""
    await target.need_tools()
    answer = await target.post_chat(HELLO, tools=TOOLS, tool_choice="sometimes")
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(3)
async def client_parses_calls(target: Target) -> None:
    """The official client reads a call from a whole answer."""
    await target.need_tools()
    fields = {"tools": TOOLS, "tool_choice": named("save_note"), "parallel_tool_calls": False, "max_tokens": 200}
    answer = await target.ask(HELLO, **fields)
    call = answer.choices[0].message.tool_calls[0]
    expect_equal("the arguments", json.loads(call.function.arguments), {"text": LONG_NOTE})
