"""The bar above every screen: where one is, and where one can go."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import reactive
from textual.widgets import Label

from tui.modes import ALL_MODES


class ModeTab(Label):
    """The name of one mode; a click goes there."""

    def __init__(self, mode: str, text: str, *, is_here: bool) -> None:
        super().__init__(text, classes="-here" if is_here else "", id=f"tab-{mode}")
        self._mode = mode

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.app.switch_mode(self._mode)


class ModeBar(Horizontal):
    """The names of all modes with their keys, the present one marked.

    Args:
        mode: the present one.
    """

    DEFAULT_CSS = """
    ModeBar {
        dock: top;
        height: 1;
        background: $panel;
        & Label { padding: 0 1; color: $text-muted; }
        & #app-name { color: $primary; text-style: bold; width: 10; }
        & .-here { background: $primary; color: $background; text-style: bold; }
        & .-here:nocolor { text-style: bold underline; }
        & .-here:ansi { background: ansi_default; color: ansi_default; text-style: bold reverse; }
        & ModeTab:hover { color: $text; }
        & #status { dock: right; max-width: 40%; color: $text-accent; background: $panel; display: none; }
        &.-busy #app-name { display: none; }
        &.-busy #status { display: block; }
    }
    """

    status: reactive[tuple[str, ...]] = reactive(())
    """What goes on in the background, each in a few letters; it takes the place of the app's name."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode

    def compose(self) -> ComposeResult:
        yield Label("localllm", id="app-name")
        yield Label("", id="status", markup=False)
        for mode in ALL_MODES:
            yield ModeTab(mode.name, f"{mode.key.upper()} {mode.title}", is_here=mode.name == self._mode)

    def watch_status(self, status: tuple[str, ...]) -> None:
        self.query_one("#status", Label).update(" ".join(status))
        self.set_class(bool(status), "-busy")
