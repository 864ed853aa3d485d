"""Cutting Markdown that is still growing into blocks that can no longer change."""

from __future__ import annotations

import re

_FENCE = re.compile(r" {0,12}(`{3,}|~{3,})")
_LIST_ITEM = re.compile(r"\s*([-*+]|\d{1,9}[.)])\s")


class BlockSplitter:
    """Takes text as it comes and gives back finished blocks: paragraphs, lists, tables, fenced code.

    A blank line ends a block once the next line shows that it does not go on; a list goes on with items and with
    indented text. The blocks joined are the text, but for blank lines between them.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._partial = ""
        self._fence: str | None = None
        self._saw_gap = False

    @property
    def pending(self) -> str:
        """The block that may still change."""
        return "".join(self._lines) + self._partial

    def feed(self, text: str) -> list[str]:
        """Take more text and return the blocks that it finished."""
        *complete, self._partial = (self._partial + text).split("\n")
        finished: list[str] = []
        for line in complete:
            finished.extend(self._take(line + "\n"))
        return finished

    def flush(self) -> list[str]:
        """Return the last block, at the end of the text."""
        last = self.pending
        self.__init__()  # type: ignore[misc]
        return [last] if last.strip() else []

    def _take(self, line: str) -> list[str]:
        if self._fence is not None:
            self._lines.append(line)
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = None
                return [] if self._is_list() else self._finish()
            return []
        if not line.strip():
            self._saw_gap = bool(self._lines)
            if self._lines:
                self._lines.append(line)
            return []
        finished = self._finish() if self._saw_gap and not self._goes_on(line) else []
        self._saw_gap = False
        fence = _FENCE.match(line)
        if fence is not None:
            if self._lines and not self._is_list():
                finished += self._finish()
            self._fence = fence.group(1)
        self._lines.append(line)
        return finished

    def _goes_on(self, line: str) -> bool:
        return self._is_list() and (line.startswith((" ", "\t")) or _LIST_ITEM.match(line) is not None)

    def _is_list(self) -> bool:
        return bool(self._lines) and _LIST_ITEM.match(self._lines[0]) is not None

    def _finish(self) -> list[str]:
        block, self._lines = "".join(self._lines), []
        self._saw_gap = False
        return [block] if block.strip() else []
