"""A line above the composer when the model is not there: why, and which key helps."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from localllm.printable import marked
from tui.engines import EngineState

_NO_MODEL = "No model is here yet. F3 finds one to fetch; Ctrl+O chooses another."


class EngineNotice(Static):
    """Shows what is wrong with a model; nothing while all is well."""

    DEFAULT_CSS = """
    EngineNotice {
        height: auto;
        max-height: 6;
        padding: 0 1;
        margin: 0 1;
        border-left: outer $error;
        background: $panel;
        display: none;
        &.-shown { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False, id="engine-notice")

    def show(self, ref: str | None, state: EngineState | None) -> None:
        """Follow the engine of a model; a `ref` of None: there is no model at all."""
        text = _NO_MODEL if ref is None else _problem(state)
        self.set_class(bool(text), "-shown")
        self.update(Content(text))


def _problem(state: EngineState | None) -> str:
    if state is None or state.error is None:
        return ""
    if state.phase == "crashed":
        return marked(f"{state.ref}: {state.error.message} Ctrl+R loads it again; what was said is kept.")
    words = " ".join(filter(None, (state.error.message, state.error.hint)))
    return marked(f"{state.ref} could not be loaded. {words} Ctrl+R tries again, Ctrl+O chooses another model.")
