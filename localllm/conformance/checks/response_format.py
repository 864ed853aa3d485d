"""Point 5: answers in a form, or HTTP 400; never an answer in another form."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from localllm.conformance.check import NotApplicable, check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COLOURS, COUNT, HELLO, TOOLS, object_schema, only, schema_format
from localllm.conformance.target import Target


class _Wall(BaseModel):
    """What the official client turns into a schema and back."""

    colour: str
    height: int


async def _obeyed(target: Target, schema: Any, prompt: str = HELLO) -> Any:
    """Return the JSON of an answer under a schema; a refusal is honest, and says nothing about the answer."""
    answer = await target.post_chat(prompt, response_format=schema_format(schema), max_tokens=300)
    if answer.status == 400:
        raise NotApplicable(f"the server refuses this schema, with HTTP 400: {answer.error.get('message')}")
    choice = answer.ok()["choices"][0]
    expect_equal("the finish reason", choice["finish_reason"], "stop")
    return json.loads(choice["message"]["content"])


async def _expect_refused(target: Target, response_format: Json) -> None:
    answer = await target.post_chat(HELLO, response_format=response_format, max_tokens=60)
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(5)
async def text_is_free(target: Target) -> None:
    """`text` is an answer like any other."""
    text = await target.text(COUNT, response_format={"type": "text"})
    expect_equal("the text", text, await target.text(COUNT))


@check(5)
async def json_object(target: Target) -> None:
    """`json_object` gives a JSON object."""
    prompt = "Answer in JSON, with one key, colour, and one word as its value."
    choice = (await target.chat(prompt, response_format={"type": "json_object"}, max_tokens=300))["choices"][0]
    content = choice["message"]["content"]
    if choice["finish_reason"] == "length":
        # A weak model may go on for ever within the form; what is there must still be its beginning.
        expect(content.lstrip().startswith("{"), "the beginning of a JSON object", content)
    else:
        expect(isinstance(json.loads(content), dict), "a JSON object", content)


@check(5)
async def json_schema(target: Target) -> None:
    """`json_schema` gives JSON that obeys the schema: keys, enums, numbers in bounds, nesting, arrays."""
    schema = object_schema(
        colour={"type": "string", "enum": list(COLOURS)},
        litres={"type": "integer", "minimum": 3, "maximum": 5},
        walls={"type": "array", "items": object_schema(dry={"type": "boolean"}), "minItems": 2, "maxItems": 2},
    )
    value = await _obeyed(target, schema)
    expect_equal("the keys", sorted(value), ["colour", "litres", "walls"])
    expect(value["colour"] in COLOURS, f"one of {COLOURS}", value["colour"])
    expect(type(value["litres"]) is int and 3 <= value["litres"] <= 5, "3 to 5", value["litres"])
    expect([type(wall["dry"]) for wall in value["walls"]] == [bool, bool], "two walls, dry or not", value["walls"])


@check(5)
async def json_schema_streamed(target: Target) -> None:
    """So it does in a stream."""
    fields = only("mauve")
    stream = await target.stream("Write a poem.", max_tokens=60, **fields)
    expect_equal("the JSON", json.loads(stream.content()), {"text": "mauve"})


@check(5)
async def schema_without_strict(target: Target) -> None:
    """A schema holds also where `strict` is left out."""
    schema = object_schema(text={"type": "string", "enum": ["mauve"]})
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    text = await target.text("Write a poem.", response_format=form, max_tokens=60)
    expect_equal("the JSON", json.loads(text), {"text": "mauve"})


@check(5)
async def references(target: Target) -> None:
    """$defs and $ref hold, or are refused."""
    schema = object_schema(wall={"$ref": "#/$defs/wall"}) | {
        "$defs": {"wall": object_schema(colour={"type": "string", "enum": list(COLOURS)})}
    }
    value = await _obeyed(target, schema)
    expect(value["wall"]["colour"] in COLOURS, f"one of {COLOURS}", value)


@check(5)
async def alternatives(target: Target) -> None:
    """anyOf holds, or is refused."""
    value = await _obeyed(target, object_schema(x={"anyOf": [{"enum": ["teal"]}, {"type": "boolean"}]}))
    expect(value["x"] == "teal" or isinstance(value["x"], bool), "teal, true or false", value)


@check(5)
async def patterns(target: Target) -> None:
    """A pattern holds, or is refused."""
    value = await _obeyed(target, object_schema(plate={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}))
    expect(bool(re.fullmatch("[A-Z]{3}-[0-9]{4}", value["plate"])), "three letters, a dash, four digits", value)


@check(5)
async def lengths(target: Target) -> None:
    """minLength and maxLength hold, or are refused."""
    value = await _obeyed(target, object_schema(code={"type": "string", "minLength": 6, "maxLength": 6}))
    expect_equal("the length", len(value["code"]), 6)


@check(5)
async def missing_reference_is_refused(target: Target) -> None:
    """A $ref that leads nowhere is HTTP 400."""
    await _expect_refused(target, schema_format(object_schema(x={"$ref": "#/$defs/missing"})))


@check(5)
async def unknown_type_is_refused(target: Target) -> None:
    """A type that there is not is HTTP 400."""
    await _expect_refused(target, schema_format(object_schema(x={"type": "strin"})))


@check(5)
async def contradiction_is_refused(target: Target) -> None:
    """A schema that no value obeys is HTTP 400.

    A server that leaves out what it cannot hold (`not`, `uniqueItems`, `multipleOf`) answers as if it had held it.
    """
    for impossible in (
        {"type": "string", "enum": ["a"], "not": {"const": "a"}},
        {"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 7},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2, "uniqueItems": True},
    ):
        answer = await target.post_chat(
            HELLO, response_format=schema_format(object_schema(x=impossible)), max_tokens=60
        )
        expect(answer.status == 400, f"HTTP 400 for {json.dumps(impossible)}", f"HTTP {answer.status}: {answer.text}")


@check(5)
async def missing_schema_is_refused(target: Target) -> None:
    """A `json_schema` without a schema is HTTP 400."""
    await _expect_refused(target, {"type": "json_schema"})


@check(5)
async def unknown_format_is_refused(target: Target) -> None:
    """A type of format that there is not is HTTP 400."""
    await _expect_refused(target, {"type": "json_scheme", "json_schema": {"name": "x", "schema": {}}})


@check(5)
async def holds_beside_tools(target: Target) -> None:
    """A schema holds also where tools are given and none is called."""
    await target.need_tools()
    fields = {"tools": TOOLS, "tool_choice": "none", "max_tokens": 60, **only("mauve")}
    text = await target.text("Write a poem.", **fields)
    expect_equal("the JSON", json.loads(text), {"text": "mauve"})


@check(5)
async def holds_beside_tools_that_may_be_called(target: Target) -> None:
    """With tool_choice `auto`, an answer obeys the schema or calls."""
    await target.need_tools()
    choice = (await target.chat(HELLO, tools=TOOLS, tool_choice="auto", max_tokens=300, **only("mauve")))["choices"][0]
    if not choice["message"].get("tool_calls"):
        expect_equal("the JSON", json.loads(choice["message"]["content"]), {"text": "mauve"})


@check(5)
async def holds_after_thinking(target: Target) -> None:
    """With thinking on, the schema holds for what comes after it, and the thoughts are free."""
    if not target.thinks:
        raise NotApplicable("the model does not think")
    fields = {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget": 24, "thinking_budget_tokens": 24}
    choice = (await target.chat(HELLO, max_tokens=600, **fields, **only("mauve")))["choices"][0]
    thought = choice["message"].get("reasoning_content") or choice["message"].get("reasoning")
    if choice["finish_reason"] == "length" and not choice["message"].get("content"):
        raise NotApplicable("the model was still thinking after 600 tokens")
    expect_equal("the JSON", json.loads(choice["message"]["content"]), {"text": "mauve"})
    expect(bool(thought) and "mauve" not in thought[:12], "thoughts before it", thought)


@check(5)
async def client_parses(target: Target) -> None:
    """The official client's `parse` gives an object of the caller's class."""
    arguments = target.arguments(HELLO, max_tokens=120)
    answer = await target.openai.chat.completions.parse(**arguments, response_format=_Wall)
    expect(isinstance(answer.choices[0].message.parsed, _Wall), "a parsed object", answer.choices[0].message)
