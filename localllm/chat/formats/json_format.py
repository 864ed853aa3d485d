"""The families whose calls are JSON objects between two texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from localllm.chat.formats.base import Format
from localllm.chat.formats.json_calls import Fence, JsonCallParser
from localllm.chat.formats.lark import BLANKS, Lark, either, literal, quoted
from localllm.chat.formats.parser import StreamParser
from localllm.chat.formats.tools import Tool, Toolbox


class JsonFormat(Format):
    """Calls are objects of a name and arguments, between the texts of `fence`."""

    fence: ClassVar[Fence]
    key: ClassVar[str] = "arguments"
    """What the arguments are called."""
    loose: ClassVar[tuple[Fence, ...]] = ()
    """What an answer may begin with that is a call if it names a known function."""

    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        if toolbox is None or toolbox.mode == "none":
            return StreamParser(self.tags, is_thinking=is_thinking)
        return JsonCallParser(
            self.tags,
            is_thinking=is_thinking,
            names=toolbox.names,
            fences=(self.fence,),
            loose=self.loose,
        )

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        return f"{BLANKS} {lark.marker(self.fence.start)} {self._after_marker(lark, toolbox)}"

    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        start = self.fence.start
        tools = toolbox.tools if toolbox.mode == "none" else toolbox.callable
        heads = [self._loose_head(lark, i, tool) for i, tool in enumerate(tools)] if self.loose else []
        if toolbox.mode == "none":
            return lark.text_without("TEXT", beginnings=[*beginnings, *heads], within=[literal(start)])
        text = lark.text_without(
            "TEXT",
            beginnings=[*beginnings, *heads],
            within=[literal(start)] if lark.is_control(start) else (),
        )
        trigger = lark.up_to("trigger", start, text)
        choices = [f"{trigger} {self._after_marker(lark, toolbox)}", text]
        if self.loose:
            loose = either(*(self._loose_call(lark, i, tool) for i, tool in enumerate(toolbox.callable)))
            choices.append(f"({loose})+" if toolbox.parallel else loose)
        return either(*choices)

    def _after_marker(self, lark: Lark, toolbox: Toolbox) -> str:
        """Return the expression of what follows the marker of the first call."""
        call = either(*(self._object(lark, index, tool) for index, tool in enumerate(toolbox.callable)))
        end = f"{BLANKS} {lark.marker(self.fence.end)}" if self.fence.end else ""
        lark.define("call", f"{BLANKS} {call} {end}")
        if not toolbox.parallel:
            return "call"
        return f"call ({BLANKS} {lark.marker(self.fence.start)} call)*"

    def _object(self, lark: Lark, index: int, tool: Tool) -> str:
        """Return the rule of a call of one tool, as the family writes it."""
        spelled = f"/\\{{\\s{{0,4}}/ {quoted('name')} /: ?/ {quoted(tool.name)} /,\\s{{0,4}}/ {quoted(self.key)} /: ?/"
        head = lark.define(f"HEAD_{index}", spelled)
        return lark.define(f"call_{index}", f"{head} {lark.schema(tool.schema)} /\\s{{0,4}}\\}}/")

    def _loose_head(self, lark: Lark, index: int, tool: Tool) -> str:
        starts = either(*(literal(fence.start) for fence in self.loose))
        spelled = f"/\\s*/ {starts} /\\s*\\{{\\s*/ {quoted('name')} /\\s*:\\s*/ {quoted(tool.name)}"
        return lark.define(f"LOOSE_{index}", spelled)

    def _loose_call(self, lark: Lark, index: int, tool: Tool) -> str:
        ends = either(*dict.fromkeys(literal(fence.end) for fence in self.loose))
        lark.define("LOOSE_ARGUMENTS", f"/\\s*,\\s*/ ({quoted('arguments')} | {quoted('parameters')}) /\\s*:\\s*/")
        lark.define("LOOSE_END", f"/\\s{{0,8}}\\}}/ (/\\s{{0,8}}/ {ends})?")
        return lark.define(f"loose_{index}", f"LOOSE_{index} LOOSE_ARGUMENTS {lark.schema(tool.schema)} LOOSE_END")
