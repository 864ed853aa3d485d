"""Llama 3.1 to 3.3: an answer that is {"name": ..., "parameters": {...}}, or has it after <|python_tag|>.

The templates ask for one bare object and take one call a message. Code for built-in tools after <|python_tag|> is
not a call of a tool of the caller's.

Source: the chat templates of Llama 3.1, 3.2 and 3.3 and their prompt format pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localllm.chat.formats.base import call_json
from localllm.chat.formats.json_calls import BARE, Fence
from localllm.chat.formats.json_format import JsonFormat
from localllm.chat.formats.lark import BLANKS, Lark, either
from localllm.chat.formats.tools import Tool, Toolbox
from localllm.chat.messages import ToolCall

_PYTHON = "<|python_tag|>"


class Llama3(JsonFormat):
    name = "llama3"
    call_markers = (_PYTHON,)
    fence = Fence(_PYTHON, "")
    key = "parameters"
    loose = (BARE,)

    def instructions(self) -> str:
        example = '{"name": <function name>, "parameters": <object of arguments>}'
        return f"To call a function, answer with nothing but\n{example}\nand wait for its result."

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        return "; ".join(call_json(call, self.key) for call in calls)

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        # As JSON schemas, because an answer by a schema begins alike.
        objects = either(*(lark.schema(_call_schema(tool)) for tool in toolbox.callable))
        return f"({BLANKS} {lark.marker(_PYTHON)} {BLANKS})? {objects}"


def _call_schema(tool: Tool) -> dict[str, Any]:
    """Return the schema of a call of one tool."""
    parameters = _moved(tool.schema, "#/properties/parameters")
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "parameters": parameters},
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _moved(schema: Any, where: str) -> Any:
    """Return a schema whose references to its own parts hold within a larger one, where it stands at `where`."""
    if isinstance(schema, list):
        return [_moved(item, where) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {key: _moved(value, where) for key, value in schema.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = where + reference[1:]
    return moved
