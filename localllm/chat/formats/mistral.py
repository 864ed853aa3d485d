"""Mistral: calls after [TOOL_CALLS], either as a JSON list or each as its name, [ARGS] and its arguments.

The list is of Mistral 7B v0.3, Nemo, Large and Small 3.1; the newer form is of Magistral, Devstral 2507 and Small 3.2,
which put [CALL_ID] and an identifier between the name and [ARGS].

Source: the chat templates of these models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from localllm.chat.formats.base import Format, call_json
from localllm.chat.formats.lark import Lark, either, literal, quoted
from localllm.chat.formats.object_calls import ObjectCallParser
from localllm.chat.formats.parser import StreamParser, ThinkingTags
from localllm.chat.formats.tools import Tool, Toolbox
from localllm.chat.messages import ToolCall

_CALLS, _ARGS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_HEAD = re.compile(r"\s*([\w.:/-]{1,128})\s*(?:\[CALL_ID\]\s*(\w{1,64})\s*)?(?:\[ARGS\]\s*)?(?=\{)", re.ASCII)
_MAX_HEAD_CHARS = 256


class MistralParser(ObjectCallParser):
    """Takes calls in either form."""

    def __init__(self, tags: ThinkingTags | None, *, is_thinking: bool, names: Collection[str]) -> None:
        super().__init__(tags, is_thinking=is_thinking, names=names)
        self._after_arguments = self._after_call

    def _answer(self) -> bool:
        if self._text_before((_CALLS,), self._say) is None:
            return False
        n = self._buffer.index(_CALLS) + len(_CALLS)
        rest = self._buffer[n:].lstrip()
        if not rest and not self._ended:
            return False
        if rest.startswith("["):
            return self._open_item(len(self._buffer) - len(rest) + 1, n)
        return self._head(n)

    # The newer form.

    def _head(self, n_marker: int) -> bool:
        head = _HEAD.match(self._buffer, n_marker)
        if head is not None and head[1] in self._names:
            start = self._at
            self._drop(head.end())
            self._begin_call(start, head[1], head[2])
            return self._go(self._reading_arguments)
        could_be = len(self._buffer) - n_marker < _MAX_HEAD_CHARS and "{" not in self._buffer[n_marker:]
        if head is None and could_be and not self._ended:
            return False
        self._say(n_marker)
        return True

    def _after_call(self) -> bool:
        self._drop_blanks()
        return bool(self._buffer) and self._go(self._answer)

    # The list.

    def _open_item(self, n: int, n_opening: int) -> bool:
        """Read the item of a list that begins after `n` characters; the first `n_opening` are its marker."""
        return self._read_call(n, n_opening, then=self._between_items, otherwise=self._answer)

    def _between_items(self) -> bool:
        text = self._buffer.lstrip()
        if not text:
            return False
        n_blank = len(self._buffer) - len(text)
        if text[0] == ",":
            return self._open_item(n_blank + 1, n_blank + 1)
        self._drop(n_blank + (text[0] == "]"))
        return self._go(self._after_call)


class Mistral(Format):
    """Calls after [TOOL_CALLS], in either form.

    Args:
        tags: the texts around the reasoning.
        has_list: whether calls are a JSON list.
        has_ids: whether a call has [CALL_ID].
    """

    name = "mistral"
    call_markers = (_CALLS, _ARGS, _CALL_ID)
    n_id_chars = 9

    def __init__(self, tags: ThinkingTags | None = None, *, has_list: bool = True, has_ids: bool = False) -> None:
        super().__init__(tags)
        self._has_list = has_list
        self._has_ids = has_ids

    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        if toolbox is None or toolbox.mode == "none":
            return StreamParser(self.tags, is_thinking=is_thinking)
        return MistralParser(self.tags, is_thinking=is_thinking, names=toolbox.names)

    def instructions(self) -> str:
        calls = f"{_CALLS}NAME{_ARGS}{{...}}"
        if self._has_list:
            calls = f'{_CALLS}[{{"name": ..., "arguments": {{...}}}}]'
        return f"To call a function, answer with nothing but\n{calls}\nand wait for its result."

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        if self._has_list:
            return f"{_CALLS}[{', '.join(map(call_json, calls))}]"
        return "".join(map(self._written, calls))

    def _written(self, call: ToolCall) -> str:
        call_id = f"{_CALL_ID}{call.id}" if self._has_ids and call.id is not None else ""
        return f"{_CALLS}{call.function.name}{call_id}{_ARGS}{call.function.arguments}"

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        return f"{lark.marker(_CALLS)} {self._after_marker(lark, toolbox)}"

    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        if toolbox.mode == "none":
            return lark.text_without("TEXT", beginnings=beginnings, within=[literal(_CALLS)])
        within = [literal(_CALLS)] if lark.is_control(_CALLS) else ()
        text = lark.text_without("TEXT", beginnings=beginnings, within=within)
        trigger = lark.up_to("trigger", _CALLS, text)
        return either(f"{trigger} {self._after_marker(lark, toolbox)}", text)

    def _after_marker(self, lark: Lark, toolbox: Toolbox) -> str:
        write = self._item if self._has_list else self._named
        call = either(*(write(lark, index, tool) for index, tool in enumerate(toolbox.callable)))
        lark.define("call", call)
        if self._has_list:
            more = "(/,\\s{0,2}/ call)*" if toolbox.parallel else ""
            return f'/ ?\\[/ call {more} "]"'
        return f"call ({lark.marker(_CALLS)} call)*" if toolbox.parallel else "call"

    def _item(self, lark: Lark, index: int, tool: Tool) -> str:
        head = lark.define(
            f"HEAD_{index}",
            f"/\\{{\\s{{0,2}}/ {quoted('name')} /: ?/ {quoted(tool.name)} /,\\s{{0,2}}/ {quoted('arguments')} /: ?/",
        )
        call_id = f'(/, ?/ {quoted("id")} /: ?"[a-zA-Z0-9]{{9}}"/)?'
        return lark.define(f"call_{index}", f'{head} {lark.schema(tool.schema)} {call_id} "}}"')

    def _named(self, lark: Lark, index: int, tool: Tool) -> str:
        call_id = f"{lark.marker(_CALL_ID)} /[a-zA-Z0-9]{{9}}/" if self._has_ids else ""
        head = f"{literal(tool.name)} {call_id} {lark.marker(_ARGS)}"
        return lark.define(f"call_{index}", f"{head} {lark.schema(tool.schema)}")
