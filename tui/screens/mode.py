"""What the screens that one switches between have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Footer

from tui.services import Services
from tui.widgets.mode_bar import ModeBar

if TYPE_CHECKING:
    from tui.app import LocalLLM


class ModeScreen(Screen[None]):
    """A screen of the app: the bar of modes above, the keys below, and `compose_body` between."""

    MODE: ClassVar[str]
    """Its name among the app's modes."""

    def compose(self) -> ComposeResult:
        yield ModeBar(self.MODE)
        yield from self.compose_body()
        yield Footer(show_command_palette=False)

    def compose_body(self) -> ComposeResult:
        """Yield what is this screen's own."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self._show_status()

    def on_screen_resume(self) -> None:
        self._show_status()

    def on_download_changed(self) -> None:
        self._show_status()

    def on_job_changed(self) -> None:
        self._show_status()

    def _show_status(self) -> None:
        if self.is_current:
            self.query_one(ModeBar).status = self.localllm.status_texts

    async def choose(self, ref: str) -> None:
        """Show a model, on a screen that has a choice of models."""

    @property
    def localllm(self) -> LocalLLM:
        """The app, typed."""
        return the_app(self)

    @property
    def services(self) -> Services:
        return self.localllm.services


def the_app(node: DOMNode) -> LocalLLM:
    """Return the app that a widget is in, typed."""
    from tui.app import LocalLLM

    app = node.app
    assert isinstance(app, LocalLLM)
    return app
