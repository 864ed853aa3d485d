"""Waits for the key that a binding shall have."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.keys import BoundKey, clashes, label, refusal


class PressKey(ModalScreen[str | None]):
    """The key that was pressed and, if it has another meaning, pressed again; None: it stays as it is.

    Args:
        bound: whose key it will be.
        known: all bindings.
    """

    DEFAULT_CSS = """
    PressKey {
        align: center middle;
        & > Vertical {
            width: 60;
            max-width: 90%;
            height: auto;
            padding: 1 2;
            border: round $primary;
            background: $surface;
        }
        #key-for { text-style: bold; margin-bottom: 1; }
        #key-said { margin-top: 1; color: $text-muted; }
        #key-said.-warns { color: $warning; }
    }
    """

    def __init__(self, bound: BoundKey, known: Sequence[BoundKey]) -> None:
        super().__init__(classes="-takes-every-key")
        self._bound = bound
        self._known = known
        self._warned_of: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"{self._bound.where}: {self._bound.description}", id="key-for", markup=False)
            yield Static(f"Now {self._bound.label}. Press the new key.", markup=False)
            yield Static("Esc leaves it as it is.", id="key-said", markup=False)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        key = event.key
        if key == "escape":
            self.dismiss(None)
        elif why_not := refusal(key, self._bound):
            self._say(why_not)
        elif key != self._warned_of and (others := clashes(key, self._bound, self._known)):
            self._warned_of = key
            meant = ", ".join(f"{other.description} ({other.where})" for other in others)
            self._say(f"{label(key)} is already: {meant}. Press it again to take it all the same.")
        else:
            self.dismiss(key)

    def _say(self, text: str) -> None:
        said = self.query_one("#key-said", Static)
        said.update(f"{text}\nEsc leaves it as it is.")
        said.add_class("-warns")
