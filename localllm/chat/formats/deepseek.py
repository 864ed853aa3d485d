"""DeepSeek: calls between markers of their own, in the form of V3 and R1 and in that of V3.1.

V3, R1:  <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME, the arguments in a ```json fence, <｜tool▁call▁end｜>
V3.1:    <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<｜tool▁call▁end｜>
All calls stand between <｜tool▁calls▁begin｜> and <｜tool▁calls▁end｜>. The templates show calls but describe no tools.

Source: the chat templates and the model cards of DeepSeek-V3, -R1 and -V3.1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from localllm.chat.formats.base import Format
from localllm.chat.formats.lark import BLANKS, Lark, either, literal
from localllm.chat.formats.parser import StreamParser, ThinkingTags
from localllm.chat.formats.tools import Tool, Toolbox
from localllm.chat.messages import ToolCall

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
_FENCE, _FENCE_END = "```json", "```"
_KIND = "function"
_MAX_HEAD_CHARS = 256


class DeepSeekParser(StreamParser):
    """Takes calls in either form."""

    def __init__(self, tags: ThinkingTags | None, *, is_thinking: bool, names: Collection[str]) -> None:
        super().__init__(tags, is_thinking=is_thinking, names=names)
        self._after_arguments = self._call_ends

    def _answer(self) -> bool:
        if self._text_before((_CALLS, _CALL), self._say) is None:
            return False
        return self._head()

    def _head(self) -> bool:
        """Read from the markers, which the buffer begins with, to where the arguments begin."""
        text = self._buffer.lstrip()
        if text.startswith(_CALLS):
            text = text[len(_CALLS) :].lstrip()
        if not text.startswith(_CALL):
            return self._wait(text, _CALL)
        head, found, rest = text[len(_CALL) :].partition(_SEP)
        if not found:
            return self._wait(head)
        name = head.strip()
        if name == _KIND and name not in self._names:
            name, found, rest = rest.lstrip().partition("\n")
            if not found:
                return self._wait(name)
        rest = rest.lstrip()
        if _FENCE.startswith(rest[: len(_FENCE)]) and len(rest) < len(_FENCE):
            return self._wait(rest)
        rest = rest.removeprefix(_FENCE).lstrip()
        if not rest:
            return self._wait(rest)
        if name.strip() not in self._names or not rest.startswith("{"):
            return self._give_up()
        start = self._at
        self._drop(len(self._buffer) - len(rest))
        self._begin_call(start, name.strip())
        return self._go(self._reading_arguments)

    def _wait(self, text: str, expected: str = "") -> bool:
        """Wait for more, unless it cannot become a call any more."""
        is_possible = expected.startswith(text) if expected else len(text) <= _MAX_HEAD_CHARS
        return False if is_possible and not self._ended else self._give_up()

    def _give_up(self) -> bool:
        """Show the marker as text; what follows is looked at anew."""
        n_blank = len(self._buffer) - len(self._buffer.lstrip())
        marker = _CALLS if self._buffer.startswith(_CALLS, n_blank) else _CALL
        self._say(n_blank + len(marker))
        return self._go(self._answer)

    def _call_ends(self) -> bool:
        """Drop what closes a call, as far as it comes, and see whether another follows."""
        text = self._buffer.lstrip()
        if not self._ended and any(m.startswith(text) for m in (_FENCE_END, _CALL_END, _CALLS_END, _CALL)):
            return False
        for marker in (_FENCE_END, _CALL_END, _CALLS_END):
            if text.startswith(marker):
                self._drop(len(self._buffer) - len(text) + len(marker))
                return True
        self._drop(len(self._buffer) - len(text))
        return self._go(self._answer)


class DeepSeek(Format):
    """Calls between DeepSeek's markers, in either form.

    Args:
        tags: the texts around the reasoning.
        has_fence: whether arguments stand in a fence, as in V3 and R1.
    """

    name = "deepseek"
    call_markers = (_CALLS, _CALLS_END, _CALL, _CALL_END, _SEP)

    def __init__(self, tags: ThinkingTags | None = None, *, has_fence: bool = True) -> None:
        super().__init__(tags)
        self._has_fence = has_fence

    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        if toolbox is None or toolbox.mode == "none":
            return StreamParser(self.tags, is_thinking=is_thinking)
        return DeepSeekParser(self.tags, is_thinking=is_thinking, names=toolbox.names)

    def describe_tools(self, toolbox: Toolbox) -> str:
        tools = "\n\n".join(
            f"### {tool.name}\nDescription: {tool.description}\n\nParameters: {_parameters(tool)}"
            for tool in toolbox.tools
        )
        return f"## Tools\nYou have access to these functions:\n\n{tools}\n\n{self.instructions()}"

    def instructions(self) -> str:
        call = self._written("NAME", "ARGUMENTS")
        return (
            f"To call functions, write exactly\n{_CALLS}{call}{_CALLS_END}\n"
            f"with NAME one of the functions and ARGUMENTS a JSON object; further calls follow before {_CALLS_END}."
        )

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        written = (self._written(call.function.name, call.function.arguments) for call in calls)
        return f"{_CALLS}{''.join(written)}{_CALLS_END}"

    def _written(self, name: str, arguments: str) -> str:
        if self._has_fence:
            return f"{_CALL}{_KIND}{_SEP}{name}\n{_FENCE}\n{arguments}\n{_FENCE_END}{_CALL_END}"
        return f"{_CALL}{name}{_SEP}{arguments}{_CALL_END}"

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        return f"{BLANKS} {lark.marker(_CALLS)} {self._after_marker(lark, toolbox)}"

    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        markers = (_CALLS, _CALL)
        if toolbox.mode == "none":
            return lark.text_without("TEXT", beginnings=beginnings, within=map(literal, markers))
        hidden = [literal(marker) for marker in markers if lark.is_control(marker) or marker == _CALL]
        text = lark.text_without("TEXT", beginnings=beginnings, within=hidden)
        trigger = lark.up_to("trigger", _CALLS, text)
        return either(f"{trigger} {self._after_marker(lark, toolbox)}", text)

    def _after_marker(self, lark: Lark, toolbox: Toolbox) -> str:
        lark.define("call", either(*(self._call(lark, i, tool) for i, tool in enumerate(toolbox.callable))))
        more = "(/\\n?/ call)*" if toolbox.parallel else ""
        return f"/\\n?/ call {more} /\\n?/ {lark.marker(_CALLS_END)}"

    def _call(self, lark: Lark, index: int, tool: Tool) -> str:
        begin, sep, end = lark.marker(_CALL), lark.marker(_SEP), lark.marker(_CALL_END)
        arguments = lark.schema(tool.schema)
        if self._has_fence:
            head, tail = literal(f"{tool.name}\n{_FENCE}\n"), literal(f"\n{_FENCE_END}")
            body = f"{begin} {literal(_KIND)} {sep} {head} {arguments} {tail} {end}"
        else:
            body = f"{begin} {literal(tool.name)} {sep} {arguments} {end}"
        return lark.define(f"call_{index}", body)


def _parameters(tool: Tool) -> str:
    return json.dumps(tool.raw["function"]["parameters"], ensure_ascii=False)
