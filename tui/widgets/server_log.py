"""What the server writes down, from a level on."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import RichLog, Static

from tui.serving.logs import LEVELS, LogLine, LogTail

_FIRST = LEVELS.index("info")


class _Lines(RichLog):
    """The last lines of the log, and those that come."""

    DEFAULT_CSS = """
    _Lines {
        height: 1fr;
        background: $background;
        scrollbar-size-vertical: 1;
    }
    """

    def __init__(self) -> None:
        super().__init__(wrap=True, max_lines=2000, min_width=20)
        self._tail: LogTail | None = None
        self._n_shown = 0
        self._least = _FIRST

    def on_mount(self) -> None:
        self._begin(None)

    @property
    def level(self) -> str:
        """The least level that is shown."""
        return LEVELS[self._least]

    def cycle_level(self) -> None:
        """Show only more important lines, or all again."""
        self._least = self._least + 1 if self._least + 1 < len(LEVELS) else _FIRST
        self._begin(self._tail)

    def show(self, tail: LogTail | None) -> None:
        """Show what is new in this log."""
        if tail is not self._tail:
            self._begin(tail)
            return
        if tail is None:
            return
        n_new = tail.n_read - self._n_shown
        self._n_shown = tail.n_read
        for line in list(tail.lines)[-n_new:] if n_new else ():
            self._add(line)

    def _begin(self, tail: LogTail | None) -> None:
        self.clear()
        self._tail = tail
        if tail is None:
            self.write(Text("The log is where the server was started."))
            return
        self._n_shown = tail.n_read
        for line in tail.lines:
            self._add(line)

    def _add(self, line: LogLine) -> None:
        if LEVELS.index(line.level) >= self._least:
            self.write(Text(f"{line.time or '        '} {line.level:<7} {line.text}"))


class ServerLog(Vertical):
    """The log, and from which level on it is shown."""

    DEFAULT_CSS = """
    ServerLog #log-level {
        color: $text-muted;
    }
    """

    def compose(self) -> ComposeResult:
        yield Static(id="log-level")
        yield _Lines()

    def on_mount(self) -> None:
        self._say_level()

    def show(self, tail: LogTail | None) -> None:
        """Show what is new in this log."""
        self.query_one(_Lines).show(tail)

    def cycle_level(self) -> None:
        """Show only more important lines, or all again."""
        self.query_one(_Lines).cycle_level()
        self._say_level()

    def _say_level(self) -> None:
        level = self.query_one(_Lines).level
        self.query_one("#log-level", Static).update(f"Lines of level {level} and above; f shows others.")
