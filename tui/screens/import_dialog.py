"""Taking a GGUF file into the list of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, RadioButton, RadioSet, Static

from localllm.errors import LocalLLMError
from localllm.hardware.sizes import format_bytes
from tui.threads import on_a_thread, teller

if TYPE_CHECKING:
    pass

_WAYS = (("link", "Leave the file where it is"), ("copy", "Make a copy"), ("move", "Move the file"))


class ImportDialog(ModalScreen[object]):
    """Ask for a file and a name, and import it; returns the model."""

    DEFAULT_CSS = """
    ImportDialog {
        align: center middle;
        #import { width: 76; max-width: 95%; height: auto; max-height: 95%; padding: 1 2; background: $surface;
            border: round $primary; }
        #import-title { text-style: bold; margin-bottom: 1; }
        Input { margin-bottom: 1; }
        RadioSet { border: none; background: transparent; padding: 0; }
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
            with RadioSet(compact=True):
                for index, (_, text) in enumerate(_WAYS):
                    yield RadioButton(text, value=not index, compact=True)
            yield Static("Tab goes on, Enter in a field imports, Esc closes.", id="import-note", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.query_one("#import-path", Input).value.strip():
            self.run_worker(self._import(), exclusive=True)

    async def _import(self) -> None:
        from localllm.store.importing import How, import_model

        path = Path(self.query_one("#import-path", Input).value.strip()).expanduser()
        name = self.query_one("#import-name", Input).value.strip() or None
        how = How(_WAYS[max(self.query_one(RadioSet).pressed_index, 0)][0])

        say = teller(self._say)

        def copied(n_done: int, n_total: int) -> None:
            say(f"{format_bytes(n_done)} of {format_bytes(n_total)}")

        self._say("Reading…")
        try:
            self.dismiss(await on_a_thread(lambda: import_model(path, name, how, copied)))
        except LocalLLMError as error:
            self._say(f"{error.message} {error.hint or ''}".rstrip(), is_problem=True)

    def _say(self, text: str, *, is_problem: bool = False) -> None:
        note = self.query_one("#import-note", Static)
        note.set_class(is_problem, "-problem")
        note.update(text)
