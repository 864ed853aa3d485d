"""Choosing which file of a model to fetch."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localllm.errors import LocalLLMError
from tui.model_files import ModelFile, files_of, recommended
from tui.model_plans import Plans
from tui.model_rows import ModelRow
from tui.model_texts import clean, size_text
from tui.threads import on_a_thread

_GATED = "Gated: accept its terms on its page on the hub first, and log in with hf auth login."


class PullDialog(ModalScreen[str | None]):
    """Choose a quantization; returns what fetches it.

    Args:
        row: the model.
        plans: what judges files.
    """

    DEFAULT_CSS = """
    PullDialog {
        align: center middle;
        #pull { width: 76; max-width: 95%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
            border: round $primary; }
        #pull-title { text-style: bold; }
        #pull-note { color: $text-muted; margin-bottom: 1; }
        OptionList { height: auto; max-height: 14; background: transparent; border: none; padding: 0; }
        OptionList:focus { border: none; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close", id="pull.close")]

    def __init__(self, row: ModelRow, plans: Plans) -> None:
        super().__init__()
        self._row, self._plans = row, plans
        self._files: list[ModelFile] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="pull"):
            yield Static(f"Fetch {clean(self._row.ref)}", id="pull-title", markup=False)
            yield Static(_GATED if self._row.is_gated else "Enter fetches, Esc closes.", id="pull-note", markup=False)
            yield OptionList(id="pull-files")

    def on_mount(self) -> None:
        files = self.query_one(OptionList)
        files.loading = True
        files.focus()
        self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        options = self.query_one(OptionList)
        try:
            self._files = await on_a_thread(lambda: files_of(self._row, self._plans))
        except LocalLLMError as error:
            self.query_one("#pull-note", Static).update(f"{error.message} {error.hint or ''}".rstrip())
            return
        finally:
            options.loading = False
        best = recommended(self._files)
        lines = [_line(file, is_best=index == best) for index, file in enumerate(self._files)]
        options.add_options([Option(Content(line)) for line in lines])
        options.highlighted = best
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._files[event.option_index].ref)


def _line(file: ModelFile, *, is_best: bool) -> str:
    advice = "  (recommended)" if is_best else ""
    return f"{clean(file.quantization, 30):<12} {size_text(file.n_bytes):>10}  {file.verdict.text}{advice}"
