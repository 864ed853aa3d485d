"""Taking a GGUF file into the list of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from localllm.errors import LocalLLMError
from localllm.hardware.sizes import format_bytes
from tui.threads import on_a_thread, teller

if TYPE_CHECKING:
    pass

_WAYS = (("link", "Leave it there"), ("copy", "Copy it"), ("move", "Move it"))


class ImportDialog(ModalScreen[object]):
    """Ask for a file and a name, and import it; returns the model."""

    DEFAULT_CSS = """
    ImportDialog {
        align: center middle;
        #import { width: 76; max-width: 95%; height: auto; max-height: 95%; padding: 1 2; background: $surface;
            border: round $primary; }
        #import-title { text-style: bold; margin-bottom: 1; }
        Input { margin-bottom: 1; }
        Horizontal { height: auto; }
        Button { margin-right: 2; }
        #import-note { margin-top: 1; color: $text-muted; }
        #import-note.-problem { color: $error; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="import.close")]

    def compose(self) -> ComposeResult:
        with Vertical(id="import"):
            yield Static("Import a GGUF file", id="import-title")
            yield Input(placeholder="Path of the .gguf file", compact=True, id="import-path")
            yield Input(placeholder="Name; without, that of the file", compact=True, id="import-name")
            with Horizontal():
                for how, text in _WAYS:
                    yield Button(text, compact=True, id=f"import-{how}")
            yield Static("Enter in a field leaves the file where it is. Esc closes.", id="import-note", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._begin(_WAYS[0][0])

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self._begin((event.button.id or "").removeprefix("import-"))

    def _begin(self, how: str) -> None:
        if self.query_one("#import-path", Input).value.strip():
            self.run_worker(self._import(how), exclusive=True)
        else:
            self._say("Give the path of a file first.", is_problem=True)

    async def _import(self, how: str) -> None:
        from localllm.store.importing import How, import_model

        path = Path(self.query_one("#import-path", Input).value.strip()).expanduser()
        name = self.query_one("#import-name", Input).value.strip() or None

        say = teller(self._say)

        def copied(n_done: int, n_total: int) -> None:
            say(f"{format_bytes(n_done)} of {format_bytes(n_total)}")

        self._say("Reading…")
        try:
            self.dismiss(await on_a_thread(lambda: import_model(path, name, How(how), copied)))
        except LocalLLMError as error:
            self._say(f"{error.message} {error.hint or ''}".rstrip(), is_problem=True)

    def _say(self, text: str, *, is_problem: bool = False) -> None:
        note = self.query_one("#import-note", Static)
        note.set_class(is_problem, "-problem")
        note.update(text)
