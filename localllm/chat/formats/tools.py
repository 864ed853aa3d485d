"""The tools of a conversation, checked once on the way in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localllm.chat.schema import MAX_GRAMMAR_CHARS, checked_schema
from localllm.errors import InvalidGrammar, RequestError

MAX_TOOLS = 512
_NAME = re.compile(r"[\w.:/-]{1,128}", re.ASCII)
_COMBINED = ("allOf", "anyOf", "oneOf", "minProperties", "maxProperties")
_SHAPE = 'A tool is {"type": "function", "function": {"name": ..., "parameters": {...}}}.'

ChoiceMode = Literal["none", "auto", "required"]


@dataclass(frozen=True)
class Tool:
    """One function that the model may call."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """The JSON schema of its arguments, an object; without keys that it does not name, unless it speaks of others."""
    raw: Mapping[str, Any]
    """The tool as it was given, for templates."""


@dataclass(frozen=True)
class Toolbox:
    """Which tools there are, and which of them may, or must, be called."""

    tools: tuple[Tool, ...]
    mode: ChoiceMode = "auto"
    only: str | None = None
    """The one function to call, where the caller named it."""
    parallel: bool = True
    """Whether more than one call is allowed."""

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that may be called; none where the mode is "none"."""
        if self.mode == "none":
            return ()
        return tuple(tool for tool in self.tools if self.only in (None, tool.name))

    @property
    def names(self) -> frozenset[str]:
        """The names of the tools that may be called."""
        return frozenset(tool.name for tool in self.callable)

    @property
    def raw(self) -> list[Mapping[str, Any]]:
        """All tools, as they were given."""
        return [tool.raw for tool in self.tools]


def parse_toolbox(tools: Any, choice: Any = None, parallel: Any = True) -> Toolbox | None:
    """Return what the options `tools`, `tool_choice` and `parallel_tool_calls` mean; None where there are no tools.

    Raises:
        RequestError: an option is malformed; the message names it, as in "tools[1].function.name".
        InvalidGrammar: the schema of a tool cannot be enforced.
    """
    parallel = True if parallel is None else parallel
    if not isinstance(parallel, bool):
        raise RequestError(f"parallel_tool_calls is {parallel!r}; it must be True or False.")
    parsed = _parse_tools(tools)
    if not parsed:
        if choice not in (None, "none", "auto"):
            raise RequestError("tool_choice asks for a tool, but there are no tools.", hint="Pass tools too.")
        return None
    mode, only = _parse_choice(choice, {tool.name for tool in parsed})
    return Toolbox(parsed, mode, only, parallel and only is None)


def _parse_tools(tools: Any) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise RequestError("tools must be a list.", hint=_SHAPE)
    if len(tools) > MAX_TOOLS:
        raise RequestError(f"{len(tools)} tools, {MAX_TOOLS} allowed.", hint="Pass the ones that matter here.")
    parsed = tuple(_parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    names = [tool.name for tool in parsed]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise RequestError(f"tools[{index}].function.name: {name!r} comes twice.", hint="Give each its own name.")
    return parsed


def _parse_tool(tool: Any, where: str) -> Tool:
    if not isinstance(tool, Mapping):
        raise RequestError(f"{where}: expected an object, got {type(tool).__name__}.", hint=_SHAPE)
    if tool.get("type", "function") != "function":
        raise RequestError(f"{where}.type: {tool['type']!r} tools are not supported.", hint="Pass functions only.")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise RequestError(f"{where}.function: expected an object.", hint=_SHAPE)
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RequestError(
            f"{where}.function.name: {name!r} is no name for a function.",
            hint="Use 1 to 128 letters, digits, underscores, dashes, dots.",
        )
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise RequestError(f"{where}.function.description: expected a string.")
    schema = _parse_schema(function.get("parameters"), f"{where}.function.parameters")
    kept = {key: value for key, value in function.items() if value is not None} | {"parameters": schema}
    kept.setdefault("description", "")
    return Tool(name, description or "", _closed(schema), {"type": "function", "function": kept})


def _parse_schema(parameters: Any, where: str) -> dict[str, Any]:
    if parameters is None:
        return {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise RequestError(f"{where}: expected a JSON schema of an object.", hint='Pass {"type": "object", ...}.')
    schema = dict(parameters)
    schema.setdefault("type", "object")
    if schema["type"] != "object":
        raise RequestError(f'{where}.type: {schema["type"]!r}; arguments are an "object".')
    if "properties" not in schema:
        schema["properties"] = {}
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidGrammar(f"{where}: not JSON: {error}.", hint="Pass what JSON can hold.") from error
    if len(text) > MAX_GRAMMAR_CHARS:
        raise InvalidGrammar(f"{where}: {len(text)} characters, {MAX_GRAMMAR_CHARS} allowed.", hint="Make it smaller.")
    try:
        checked_schema(text)
    except InvalidGrammar as error:
        raise InvalidGrammar(f"{where}: {error.message}", hint=error.hint) from error
    # As plain JSON, since the caller's objects may be of any class.
    plain: dict[str, Any] = json.loads(text)
    return plain


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Forbid arguments that the schema does not name, where it says nothing of others: small models make them up."""
    is_plain = not schema.keys() & {"additionalProperties", "patternProperties", "$ref", *_COMBINED}
    names = schema["properties"].keys() if isinstance(schema["properties"], dict) else set()
    required = schema.get("required", [])
    if is_plain and isinstance(required, list) and all(isinstance(n, str) and n in names for n in required):
        return {**schema, "additionalProperties": False}
    return schema


def _parse_choice(choice: Any, names: set[str]) -> tuple[ChoiceMode, str | None]:
    if choice is None:
        return "auto", None
    if choice == "none" or choice == "auto" or choice == "required":
        return choice, None
    name = choice.get("function") if isinstance(choice, Mapping) else None
    name = name.get("name") if isinstance(name, Mapping) else None
    if not isinstance(name, str) or choice.get("type", "function") != "function":
        raise RequestError(
            f"tool_choice is {choice!r}.",
            hint='It must be "none", "auto", "required" or {"type": "function", "function": {"name": ...}}.',
        )
    if name not in names:
        raise RequestError(f"tool_choice names {name!r}, which is not among the tools.", hint="Pass that tool too.")
    return "required", name
