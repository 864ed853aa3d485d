"""Where a chat is shown: plainly, for pipes and tests, or rendered, in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import click

from localllm.chat.blocks import BlockSplitter
from localllm.cli.errors import show_error
from localllm.cli.terminal import TextOutput
from localllm.errors import LocalLLMError
from localllm.printable import harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

REDRAW_S = 0.08
"""Rendering the current block more often costs time that the model could use."""


class AnswerWriter(Protocol):
    """Shows one answer as it comes."""

    def write(self, text: str) -> None:
        """Show more of the answer."""

    def end(self) -> None:
        """The answer is over; called once, also after an interruption."""


def notice(text: str) -> None:
    """Say something about the program, in dim letters on stderr."""
    click.secho(text, dim=True, err=True)


def error_notice(error: LocalLLMError) -> None:
    """Say what went wrong; the conversation goes on."""
    show_error(error.message, error.hint)


def plain_answer() -> AnswerWriter:
    """Return a writer of the answer's characters to stdout."""
    return TextOutput()


class MarkdownAnswer:
    """Renders Markdown: finished blocks are printed for good, and the current one is redrawn below them."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(highlight=False)
        self._blocks = BlockSplitter()
        self._live: Live | None = None
        self._drawn_at = 0.0
        self._is_first = True

    def write(self, text: str) -> None:
        live = self._started()
        for block in self._blocks.feed(harmless(text)):
            self._print(block)
            self._drawn_at = 0.0
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_S:
            self._drawn_at = now
            live.update(_Block(self._blocks.pending, is_growing=True), refresh=True)

    def end(self) -> None:
        if self._live is None:
            return
        self._live.update("", refresh=True)
        self._live.stop()
        self._live = None
        for block in self._blocks.flush():
            self._print(block)

    def _started(self) -> Live:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        return self._live

    def _print(self, block: str) -> None:
        if self._live is not None:
            self._live.update("", refresh=True)
        if not self._is_first:
            self._console.print()
        self._is_first = False
        self._console.print(_Block(block), end="")


class _Block:
    """A block of Markdown, without the blank lines that rich puts before some kinds of blocks.

    Args:
        text: Markdown.
        is_growing: show its last lines only, since what is taller than the terminal cannot be redrawn.
    """

    def __init__(self, text: str, *, is_growing: bool = False) -> None:
        from rich.markdown import Markdown

        # A link shows its address, since a model may write one name and mean another place.
        self._content = Markdown(text, hyperlinks=False)
        self._is_growing = is_growing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = console.render_lines(self._content, options, pad=False)
        while lines and not "".join(segment.text for segment in lines[0]).strip():
            del lines[0]
        for line in lines[-max(1, console.height - 2) :] if self._is_growing else lines:
            yield from line
            yield Segment.line()
