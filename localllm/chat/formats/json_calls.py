"""The parser of the families whose calls are JSON objects: {"name": ..., "arguments": {...}}."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from localllm.chat.formats.object_calls import ObjectCallParser
from localllm.chat.formats.parser import ThinkingTags


class Fence(NamedTuple):
    """The texts around calls; "" for none."""

    start: str
    end: str


BARE = Fence("", "")


class JsonCallParser(ObjectCallParser):
    """Takes calls between fences, and between looser ones where an answer begins with them.

    Args:
        fences: with these around it, an object anywhere is a call.
        loose: with these around it, an object with which an answer begins is a call if its name comes first and is
            known; the longest first, so that none begins with one before it.
    """

    def __init__(
        self,
        tags: ThinkingTags | None,
        *,
        is_thinking: bool = False,
        names: Collection[str] = (),
        fences: Collection[Fence] = (),
        loose: Collection[Fence] = (),
    ) -> None:
        super().__init__(tags, is_thinking=is_thinking, names=names)
        self._fences = {fence.start: fence for fence in fences}
        self._loose = tuple(loose)
        self._fence = BARE

    def _answer(self) -> bool:
        """The beginning of the answer, where looser fences count."""
        text = self._buffer.lstrip()
        n_blank = len(self._buffer) - len(text)
        for fence in self._loose:
            if text.startswith(fence.start):
                n_object = len(text) - len(text[len(fence.start) :].lstrip())
                if text[n_object : n_object + 1] == "{":
                    return self._open(fence, n_blank + n_object, is_loose=True)
                if n_object == len(text) and not self._ended:
                    return False
            elif fence.start.startswith(text) and not self._ended:
                return False
        return self._go(self._text)

    def _text(self) -> bool:
        found = self._text_before(self._fences, self._say)
        if found is None:
            return False
        n_blank = len(self._buffer) - len(self._buffer.lstrip())
        return self._open(self._fences[found], n_blank + len(found), is_loose=False)

    def _open(self, fence: Fence, n: int, *, is_loose: bool) -> bool:
        """Read a call that may begin after `n` characters, which stay in the buffer until it is sure."""
        self._fence = fence
        return self._read_call(n, n, then=self._closing, otherwise=self._text, name_first=is_loose)

    def _closing(self) -> bool:
        text = self._buffer.lstrip()
        if text.startswith(self._fence.end):
            self._drop(len(self._buffer) - len(text) + len(self._fence.end))
        elif self._fence.end.startswith(text) and not self._ended:
            return False
        return self._go(self._after_call)

    def _after_call(self) -> bool:
        self._drop_blanks()
        if not self._buffer:
            return False
        return self._go(self._answer if self._fence in self._loose else self._text)
