"""Choosing a model of this disk, or a file or folder by its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Select

from tui.quantizing.sources import ModelChoice
from tui.quantizing.words import size

_BY_PATH = ""


class ModelSelect(Vertical):
    """A list of models, and below it a path if that is chosen instead.

    Args:
        prompt: what stands there while nothing is chosen.
        marks_quantized: say of which models the weights have fewer than 16 bits.
    """

    DEFAULT_CSS = """
    ModelSelect {
        height: auto;
        & > Input { display: none; }
        &.-by-path > Input { display: block; }
    }
    """

    class Changed(Message):
        """Another model is chosen, or none."""

    def __init__(self, prompt: str, *, marks_quantized: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._prompt = prompt
        self._marks_quantized = marks_quantized
        self._models: Sequence[ModelChoice] | None = None
        self._wanted: str | None = None

    def compose(self) -> ComposeResult:
        yield Select[str](self._options(), prompt=self._prompt, compact=True)
        yield Input(placeholder="Path of a GGUF file, or of a Hugging Face folder", compact=True)

    @property
    def path(self) -> Path | None:
        """What is chosen."""
        value = self._select.value
        if not isinstance(value, str):
            return None
        text = self.query_one(Input).value.strip() if value == _BY_PATH else value
        return Path(text).expanduser().absolute() if text else None

    def set_models(self, models: Sequence[ModelChoice]) -> None:
        """Offer these; what is chosen stays, if it is among them."""
        select = self._select
        value, self._models = select.value, models
        with self.prevent(Select.Changed):
            select.set_options(self._options())
            if value == _BY_PATH or any(str(model.path) == value for model in models):
                select.value = value
        if self._wanted is not None:
            self.choose(self._wanted)
        elif select.value != value:
            self.post_message(self.Changed())

    def choose(self, ref: str) -> None:
        """Choose a model by its name, or by a path that need not be offered; before there are any, once there are."""
        self._wanted = ref if self._models is None else None
        if self._models is None:
            return
        found = next((model for model in self._models if ref in (model.ref, str(model.path))), None)
        if found is not None:
            self._select.value = str(found.path)
        else:
            self._select.value = _BY_PATH
            self.query_one(Input).value = ref

    @property
    def _select(self) -> Select[str]:
        return self.query_one(Select)

    def _options(self) -> list[tuple[Text, str]]:
        options = [(self._line(model), str(model.path)) for model in self._models or ()]
        return [*options, (Text("A file or folder, by its path…"), _BY_PATH)]

    def _line(self, model: ModelChoice) -> Text:
        from localllm.gguf import printable

        words = [printable(model.ref), model.type_name or "", size(model.n_bytes)]
        if self._marks_quantized and not model.is_full:
            words.append("quantized already")
        return Text(" · ".join(word for word in words if word))

    @on(Select.Changed)
    def _select_changed(self, event: Select.Changed) -> None:
        event.stop()
        self.set_class(event.value == _BY_PATH, "-by-path")
        self.post_message(self.Changed())

    @on(Input.Changed)
    def _path_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())
