"""gpt-oss: messages in channels, each after a header, as OpenAI's harmony format has them.

An answer is <|channel|>analysis<|message|>…<|end|> and then, after <|start|>assistant, either
<|channel|>final<|message|>… or a call, <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>.
The recipient may stand before the channel too. A turn has one call at most, because <|call|> ends it.

Source: the chat template and the model card of gpt-oss.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from localllm.chat.formats.base import Format, Thinking
from localllm.chat.formats.events import Content, Reasoning
from localllm.chat.formats.lark import ANY, Lark, either, literal
from localllm.chat.formats.parser import StreamParser, ThinkingTags
from localllm.chat.formats.tools import Tool, Toolbox

_CHANNEL, _MESSAGE, _CONSTRAIN = "<|channel|>", "<|message|>", "<|constrain|>"
_START, _END, _CALL, _RETURN = "<|start|>", "<|end|>", "<|call|>", "<|return|>"
_ENDS = (_END, _CALL, _RETURN)
_BORDERS = (*_ENDS, _START, _CHANNEL)
_HEADER = re.compile(
    r"(?:<\|start\|>)?(?:assistant)?\s*(?:to=(?P<before>\S+?)\s*)?"
    r"<\|channel\|>(?P<channel>\w+)\s*(?:to=(?P<after>[^\s<]+)\s*)?(?:<\|constrain\|>)?\s*\w*\s*"
)
_MAX_HEADER_CHARS = 512
_HEADS = (_CHANNEL, _START, "to=")
_BETWEEN = "\n\n"


class HarmonyParser(StreamParser):
    """Takes messages by their channels: analysis is reasoning, what goes to a function is a call, the rest content."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(None, names=names)
        self._after_arguments = self._message_ends
        self._shows: type[Content] | type[Reasoning] = Content
        self._shown: set[type[Content] | type[Reasoning]] = set()
        self._needs_gap = False

    def _answer(self) -> bool:
        """Between messages: a header comes, or text without one."""
        text = self._buffer.lstrip()
        if not text:
            return False
        border = next((border for border in _ENDS if text.startswith(border)), None)
        if border is not None:
            self._drop_blanks()
            self._drop(len(border))
            return True
        if any(text.startswith(head) for head in _HEADS):
            return self._header()
        if not self._ended and any(head.startswith(text) for head in (*_HEADS, *_ENDS)):
            return False
        return self._go(self._bare_text)

    def _header(self) -> bool:
        end = self._buffer.find(_MESSAGE)
        if end < 0:
            return self._unfinished_header()
        header = _HEADER.fullmatch(self._buffer[:end].strip())
        if header is None:
            return self._not_a_message()
        recipient = header["before"] or header["after"]
        if recipient is not None:
            return self._call(recipient, end + len(_MESSAGE))
        self._drop(end + len(_MESSAGE))
        self._shows = Reasoning if header["channel"] == "analysis" else Content
        self._needs_gap = self._shows in self._shown
        return self._go(self._body)

    def _unfinished_header(self) -> bool:
        text = self._buffer.lstrip()
        if len(text) > _MAX_HEADER_CHARS or (self._ended and text.startswith("to=")):
            return self._not_a_message()
        if self._ended:
            # Control tokens without a message are no text.
            self._drop(len(self._buffer))
        return False

    def _call(self, recipient: str, n_header: int) -> bool:
        """Begin a call once its arguments begin; to another recipient, or with other arguments, it is content."""
        name = recipient.removeprefix("functions.")
        arguments = self._buffer[n_header:].lstrip()
        if not arguments and not self._ended:
            return False
        if name not in self._names or not arguments.startswith("{"):
            return self._not_a_message()
        start = self._at
        self._drop(len(self._buffer) - len(arguments))
        self._begin_call(start, name)
        return self._go(self._reading_arguments)

    def _not_a_message(self) -> bool:
        """Show what looked like a header, so that nothing is lost, and the text after it."""
        self._shows = Content
        self._emit(len(self._buffer) - len(self._buffer.lstrip()) + 1)
        return self._go(self._bare_text)

    def _bare_text(self) -> bool:
        self._shows = Content
        return self._body()

    def _body(self) -> bool:
        """The text of a message, up to its end."""
        found = self._text_before(_BORDERS, self._emit)
        if found is None:
            return False
        return self._go(self._message_ends)

    def _emit(self, n: int) -> None:
        if not n:
            return
        if self._needs_gap:
            self._events.append(self._shows(_BETWEEN, self._at, self._at))
            self._needs_gap = False
        self._shown.add(self._shows)
        (self._think if self._shows is Reasoning else self._say)(n)

    def _message_ends(self) -> bool:
        self._drop_blanks()
        return bool(self._buffer) and self._go(self._answer)


class Harmony(Format):
    name = "harmony"
    call_markers = (_CHANNEL, _MESSAGE, _CONSTRAIN, _START, _END, _CALL, _RETURN)

    def __init__(self) -> None:
        super().__init__(ThinkingTags(f"{_CHANNEL}analysis{_MESSAGE}", _END))

    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        return HarmonyParser(toolbox.names if toolbox is not None else ())

    def markers(self, toolbox: Toolbox | None) -> tuple[str, ...]:
        return self.call_markers

    def template_kwargs(self, thinking: bool | None) -> dict[str, Any]:
        return {"reasoning_effort": "low"} if thinking is False else {}

    def has_switch(self, template: str) -> bool:
        # It knows more and less, but not none.
        return False

    def thinking_end(self) -> str:
        return f"{_END}{_START}assistant"

    def empty_thinking(self) -> str:
        return f"{_CHANNEL}analysis{_MESSAGE}{_END}{_START}assistant"

    def thinking(self, lark: Lark, state: Thinking) -> str:
        if state in ("off", "inside"):
            return ""
        head = "" if state == "open" else f'{lark.marker(_CHANNEL)} "analysis" {lark.marker(_MESSAGE)}'
        rest = f'{lark.up_to("thought", _END)} {lark.marker(_START)} "assistant"'
        return f"({head} {rest})?" if head else rest

    def preamble_body(self, lark: Lark, state: Thinking) -> str:
        if state == "inside":
            return ""
        return f"{self.thinking(lark, state)} {self._final(lark)}"

    def shape(self, lark: Lark, state: Thinking) -> str:
        return f"{self.preamble_body(lark, state)} {ANY}"

    def answer(self, lark: Lark, schema: str) -> str:
        return f"{self._final(lark)} {lark.schema(schema)}"

    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        return f"{self._remark(lark)} {self._call(lark, toolbox)}"

    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        final = f"{self._final(lark)} {ANY}"
        if toolbox.mode == "none":
            return final
        return f"{self._remark(lark)} {either(final, self._call(lark, toolbox))}"

    def _final(self, lark: Lark) -> str:
        constrain = f'(" " {lark.marker(_CONSTRAIN)} /json|JSON/)?'
        return f'{lark.marker(_CHANNEL)} "final" {constrain} {lark.marker(_MESSAGE)}'

    def _remark(self, lark: Lark) -> str:
        """Return the expression of words to the reader before a call, as the model card has them."""
        rest = lark.up_to("remark", _END)
        head = f'{lark.marker(_CHANNEL)} "commentary" {lark.marker(_MESSAGE)}'
        return f'({head} {rest} {lark.marker(_START)} "assistant")?'

    def _call(self, lark: Lark, toolbox: Toolbox) -> str:
        constrain = f'(" " {lark.marker(_CONSTRAIN)} "json" | " json")?'
        lark.define("call_head_end", f"{constrain} {lark.marker(_MESSAGE)}")
        return either(*(self._call_of(lark, index, tool) for index, tool in enumerate(toolbox.callable)))

    def _call_of(self, lark: Lark, index: int, tool: Tool) -> str:
        channel, recipient = lark.marker(_CHANNEL), f" to=functions.{tool.name}"
        after = f"{channel} {literal('commentary' + recipient)}"
        before = f'{literal(recipient)} {channel} "commentary"'
        return lark.define(f"call_{index}", f"({after} | {before}) call_head_end {lark.schema(tool.schema)}")
