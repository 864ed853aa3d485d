"""Qwen3-Coder: calls in tags, each argument as text in a tag of its own.

<tool_call>
<function=NAME>
<parameter=KEY>
value
</parameter>
</function>
</tool_call>

An argument whose schema says that it is a string is its text, line feeds and quotes included; others are JSON.

Source: the chat template and the tool parser of Qwen3-Coder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from localllm.chat.formats.base import Format
from localllm.chat.formats.lark import BLANKS, Lark, either, literal
from localllm.chat.formats.parser import StreamParser, ThinkingTags, n_before_partial
from localllm.chat.formats.tools import Tool, Toolbox
from localllm.chat.messages import ToolCall
from localllm.errors import InvalidGrammar

_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"
_HEAD = re.compile(r"\s*(?:<tool_call>\s*)?<function=([^>\n]{1,128})>", re.ASCII)
_KEY = re.compile(r"<parameter=([^>\n]{1,128})>\n?")
_MAX_HEAD_CHARS = 256
_PLAIN_KEY = re.compile(r"[\w.-]{1,128}", re.ASCII)
_STRING_WORDS = frozenset({"type", "enum", "const", "minLength", "maxLength"})
_NOTES = frozenset({"title", "description", "default", "examples", "example", "deprecated", "$comment"})
_OBJECT_WORDS = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions"})


class QwenCoderParser(StreamParser):
    """Takes calls in tags, and makes JSON of their arguments."""

    def __init__(self, tags: ThinkingTags | None, *, is_thinking: bool, tools: Sequence[Tool]) -> None:
        super().__init__(tags, is_thinking=is_thinking, names=frozenset(tool.name for tool in tools))
        self._tools = {tool.name: tool for tool in tools}
        self._tool: Tool | None = None
        self._n_arguments = 0

    def _answer(self) -> bool:
        if self._text_before((_CALL, _FUNCTION), self._say) is None:
            return False
        head = _HEAD.match(self._buffer)
        if head is None and len(self._buffer) < _MAX_HEAD_CHARS and not self._ended and self._could_be_head():
            return False
        if head is None or head[1] not in self._names:
            marker = _CALL if self._buffer.lstrip().startswith(_CALL) else _FUNCTION
            self._say(self._buffer.index(marker) + len(marker))
            return True
        start = self._at
        self._drop(head.end())
        self._tool, self._n_arguments = self._tools[head[1]], 0
        self._begin_call(start, head[1])
        self._write("{", start)
        return self._go(self._in_function)

    def _could_be_head(self) -> bool:
        rest = self._buffer.lstrip().removeprefix(_CALL).lstrip()
        return _FUNCTION.startswith(rest[: len(_FUNCTION)])

    def _in_function(self) -> bool:
        """Between arguments."""
        text = self._buffer.lstrip()
        ends = (_FUNCTION_END, _PARAMETER)
        if not self._ended and any(end.startswith(text) for end in ends):
            return False
        start = self._at
        if text.startswith(_FUNCTION_END):
            self._drop(len(self._buffer) - len(text) + len(_FUNCTION_END))
            self._write("}", start)
            self._end_call()
            return self._go(self._after_function)
        key = _KEY.match(text)
        if key is not None and (key[0].endswith("\n") or len(text) > key.end() or self._ended):
            self._drop(len(self._buffer) - len(text) + key.end())
            comma = ", " if self._n_arguments else ""
            self._n_arguments += 1
            self._write(f"{comma}{json.dumps(key[1])}: ", start)
            if self._is_text(key[1]):
                self._write('"', self._at)
                return self._go(self._in_text)
            return self._go(self._in_json)
        if text.startswith(_PARAMETER) and len(text) < _MAX_HEAD_CHARS and not self._ended:
            return False
        return bool(text) and self._go(self._answer)

    def _is_text(self, key: str) -> bool:
        properties = self._tool.schema["properties"] if self._tool is not None else {}
        schema = properties.get(key) if isinstance(properties, Mapping) else None
        return is_string(schema)

    def _in_text(self) -> bool:
        """Within an argument that is a string: its text is passed on, as JSON spells it, up to the closing tag."""
        end = self._buffer.find(_PARAMETER_END)
        if end < 0:
            n = len(self._buffer) if self._ended else n_before_partial(self._buffer, (f"\n{_PARAMETER_END}",))
            start = self._at
            self._write(_spelled(self._drop(n)), start)
            return False
        start, text = self._at, self._buffer[:end]
        self._drop(end + len(_PARAMETER_END))
        self._write(_spelled(text.removesuffix("\n")) + '"', start)
        return self._go(self._in_function)

    def _in_json(self) -> bool:
        """Within an argument that is JSON; what is none is made a string."""
        end = self._buffer.find(_PARAMETER_END)
        if end < 0:
            if self._ended:
                start = self._at
                self._write(self._drop(len(self._buffer)), start)
            return False
        start, text = self._at, self._buffer[:end].strip()
        self._drop(end + len(_PARAMETER_END))
        try:
            json.loads(text, parse_constant=_no_constant)
        except ValueError:
            text = json.dumps(text, ensure_ascii=False)
        self._write(text, start)
        return self._go(self._in_function)

    def _write(self, text: str, start: int) -> None:
        self._more_arguments(text, start, self._at)

    def _after_function(self) -> bool:
        text = self._buffer.lstrip()
        if not text or (_CALL_END.startswith(text) and not self._ended):
            return False
        n_blank = len(self._buffer) - len(text)
        self._drop(n_blank + (len(_CALL_END) if text.startswith(_CALL_END) else 0))
        return self._go(self._after_call)

    def _after_call(self) -> bool:
        self._drop_blanks()
        return bool(self._buffer) and self._go(self._answer)


class QwenCoder(Format):
    name = "qwen-coder"
    call_markers = (_CALL, _CALL_END)

    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        if toolbox is None or toolbox.mode == "none":
            return StreamParser(self.tags, is_thinking=is_thinking)
        return QwenCoderParser(self.tags, is_thinking=is_thinking, tools=toolbox.callable)

    def instructions(self) -> str:
        example = f"{_CALL}\n<function=NAME>\n<parameter=KEY>\nvalue\n{_PARAMETER_END}\n{_FUNCTION_END}\n{_CALL_END}"
        return f"To call a function, answer with nothing but\n{example}\nand wait for its result."

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(map(_written, calls))

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        return f"{BLANKS} {lark.marker(_CALL)} {self._after_marker(lark, toolbox)}"

    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        within = [literal(_FUNCTION)]
        if toolbox.mode == "none" or lark.is_control(_CALL):
            within.append(literal(_CALL))
        text = lark.text_without("TEXT", beginnings=beginnings, within=within)
        if toolbox.mode == "none":
            return text
        trigger = lark.up_to("trigger", _CALL, text)
        return either(f"{trigger} {self._after_marker(lark, toolbox)}", text)

    def _after_marker(self, lark: Lark, toolbox: Toolbox) -> str:
        functions = either(*(self._function(lark, i, tool) for i, tool in enumerate(toolbox.callable)))
        lark.define("call", f"/\\n?/ {functions} /\\n?/ {lark.marker(_CALL_END)}")
        return f"call (/\\n?/ {lark.marker(_CALL)} call)*" if toolbox.parallel else "call"

    def _function(self, lark: Lark, index: int, tool: Tool) -> str:
        arguments = " ".join(
            self._argument(lark, f"{index}_{number}", tool, key) for number, key in enumerate(_argument_names(tool))
        )
        head = literal(f"{_FUNCTION}{tool.name}>\n")
        return lark.define(f"function_{index}", f"{head} {arguments} {literal(_FUNCTION_END)}")

    def _argument(self, lark: Lark, number: str, tool: Tool, key: str) -> str:
        schema = tool.schema["properties"][key]
        head = literal(f"{_PARAMETER}{key}>\n")
        if is_string(schema):
            value = _string_value(lark, number, tool, key, schema)
        else:
            whole = {name: tool.schema[name] for name in ("$defs", "definitions") if name in tool.schema}
            value = f"{lark.schema({**whole, **schema} if isinstance(schema, Mapping) else whole)} "
            value += literal(f"\n{_PARAMETER_END}\n")
        optional = "" if key in tool.schema.get("required", ()) else "?"
        return f"({lark.define(f'argument_{number}', f'{head} {value}')}){optional}"


def is_string(schema: Any) -> bool:
    """Whether a schema allows strings and nothing else, so that an argument is written as its text."""
    if not isinstance(schema, Mapping):
        return False
    if schema.get("type") == "string":
        return True
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return "type" not in schema and bool(values) and all(isinstance(value, str) for value in values)


def _argument_names(tool: Tool) -> list[str]:
    unknown = tool.schema.keys() - _OBJECT_WORDS - _NOTES
    properties = tool.schema["properties"]
    missing = [key for key in tool.schema.get("required", ()) if key not in properties]
    odd = [key for key in properties if not _PLAIN_KEY.fullmatch(key)]
    for problem in (unknown, missing, odd):
        if problem:
            raise InvalidGrammar(
                f"The parameters of {tool.name!r} have {sorted(problem)[0]!r}, which this model's calls cannot honour.",
                hint="Give plain properties, each of them with its own schema.",
            )
    return list(properties)


def _string_value(lark: Lark, number: str, tool: Tool, key: str, schema: Mapping[str, Any]) -> str:
    """Return the expression of a string's text and the tag that closes it."""
    end = literal(f"\n{_PARAMETER_END}\n")
    unknown = schema.keys() - _STRING_WORDS - _NOTES
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if unknown or (values and any(_PARAMETER_END in value for value in values if isinstance(value, str))):
        raise InvalidGrammar(
            f"The string {key!r} of {tool.name!r} has {min(unknown, default='enum')!r}, which this model's calls "
            "cannot honour.",
            hint="Leave it out, or give an enum.",
        )
    if values:
        return f"{either(*(literal(value) for value in values if isinstance(value, str)))} {end}"
    low, high = schema.get("minLength", 0), schema.get("maxLength", "")
    text = f"/(?s:.{{{low},{high}}})/ & ~(/(?s:.*)/ {literal(_PARAMETER_END)} /(?s:.*)/)"
    text = lark.define(f"VALUE_{number}", text)
    return lark.define(f"text_{number}[lazy]", f"{text} {end}").removesuffix("[lazy]")


def _spelled(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _written(call: ToolCall) -> str:
    try:
        arguments = json.loads(call.function.arguments)
    except ValueError:
        arguments = {}
    lines = [_CALL, f"{_FUNCTION}{call.function.name}>"]
    for key, value in arguments.items() if isinstance(arguments, dict) else ():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"{_PARAMETER}{key}>", text, _PARAMETER_END]
    return "\n".join([*lines, _FUNCTION_END, _CALL_END])
