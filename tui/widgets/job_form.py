"""The form for a new job: a model, a type or a size, a method, where to; and what it will take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Label, Select, Static

from localllm import paths
from localllm.errors import LocalLLMError
from tui.jobs import CompareRequest, EvaluateRequest, JobKind, JobRequest, QuantizeRequest
from tui.quantizing.choices import Choices, Plan, Problem, default_name, plan
from tui.quantizing.file_types import METHODS
from tui.quantizing.prospect import Prospect, look
from tui.quantizing.sources import ModelChoice
from tui.quantizing.words import duration, size
from tui.widgets.model_select import ModelSelect
from tui.widgets.tick import Tick
from tui.widgets.type_table import TypeTable

_KINDS = (("Quantize a model", "quantize"), ("Compare types", "compare"), ("Measure a file", "evaluate"))
_FIELDS = {
    "source": "#source Select",
    "other": "#other Select",
    "types": "#types",
    "target": "#target",
    "method": "#method",
    "texts": "#texts",
    "chunks": "#chunks",
    "output": "#output",
    "requantize": "#requantize",
}
"""Where what is wrong can be mended."""


class Row(Horizontal):
    """A label and what it labels."""

    def __init__(self, label: str, *widgets: Widget, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(Label(label), *widgets, id=id, classes=classes)


class JobForm(VerticalScroll):
    """What to make, and of what. Posts `Started` with what can be done."""

    DEFAULT_CSS = """
    JobForm {
        padding: 0 1;
        & Row { height: auto; }
        & Row > Label { width: 13; color: $text-muted; }
        & Row > Select, & Row > ModelSelect, & Row > Input, & TypeTable { width: 1fr; }
        & #types { height: 7; min-height: 5; margin-left: 13; background: $surface; }
        & #chunks { width: 14; margin-left: 1; }
        & Checkbox { width: auto; margin-right: 2; }
        & #kl-aware { margin: 0 0 0 1; }
        & .-wrong { text-style: underline; }
        & #outcome { height: auto; min-height: 2; margin-top: 1; }
        & #start { margin-left: 13; }
        & .-hidden, & Row.-hidden { display: none; }
    }
    """

    class Started(Message):
        """A job is to begin."""

        def __init__(self, plan: Plan) -> None:
            super().__init__()
            self.plan = plan

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, can_focus=False)
        self._prospects: dict[Path, Prospect | LocalLLMError] = {}
        self._proposed = ""
        self._plan: Plan | Problem = Problem("source", "Choose a model.")

    def compose(self) -> ComposeResult:
        yield Row("What", Select(_KINDS, value="quantize", allow_blank=False, compact=True, id="kind"))
        yield Row("Model", ModelSelect("Choose a model", marks_quantized=True, id="source"))
        yield Row("Measure", ModelSelect("Choose the file to measure", id="other"), id="other-row")
        yield TypeTable(id="types")
        yield Row("Or at most", Input(placeholder="1.2GB, or 4.25 bits per weight", compact=True, id="target"))
        methods = [(Text(words), method) for method, words in METHODS]
        yield Row(
            "Method",
            Select(methods, value="gptq", allow_blank=False, compact=True, id="method"),
            Tick("KL-aware", compact=True, id="kl-aware", tooltip="Calibrate with gradients, too: closer, slower"),
        )
        yield Row(
            "Calibration",
            Input(placeholder="built-in text; or files, by commas", compact=True, id="texts"),
            Input(placeholder="all chunks", compact=True, id="chunks", tooltip="Of 512 tokens each, at most"),
        )
        yield Row("New file", Input(placeholder="name.gguf, or a path", compact=True, id="output"))
        yield Row(
            "",
            Tick("Report", value=True, compact=True, id="report", tooltip="Measure it against the model"),
            Tick("Replace", compact=True, id="replace", tooltip="If the file is there already"),
            Tick("Requantize", compact=True, id="requantize", tooltip="Take a model that is quantized already"),
            id="checks",
        )
        yield Static("", id="outcome", markup=False)
        yield Button("Start", variant="primary", compact=True, id="start")

    def on_mount(self) -> None:
        self._show_kind()

    @property
    def kind(self) -> JobKind:
        return cast("JobKind", self.query_one("#kind", Select).value)

    def set_models(self, models: Sequence[ModelChoice]) -> None:
        """Offer these models."""
        for name in ("#source", "#other"):
            self.query_one(name, ModelSelect).set_models(models)

    def choose(self, ref: str) -> None:
        """Choose a model to quantize."""
        self.query_one("#kind", Select).value = "quantize"
        self.query_one("#source", ModelSelect).choose(ref)
        self.query_one(TypeTable).focus()

    def fill(self, request: JobRequest) -> None:
        """Show what a job was asked for, to ask for something like it."""
        from tui.jobs.requests import kind_of, source_of

        self.query_one("#kind", Select).value = kind_of(request)
        self.query_one("#source", ModelSelect).choose(source_of(request))
        if isinstance(request, EvaluateRequest):
            self.query_one("#other", ModelSelect).choose(request.files[0])
            return
        self.query_one("#method", Select).value = request.method
        self.query_one("#kl-aware", Checkbox).value = request.is_kl_aware
        self.query_one("#texts", Input).value = ", ".join(request.texts)
        self.query_one("#chunks", Input).value = "" if request.n_chunks is None else str(request.n_chunks)
        types = self.query_one(TypeTable)
        if isinstance(request, CompareRequest):
            types.tick(request.types)
            return
        types.choose(request.type_name)
        self.query_one("#target", Input).value = _target_text(request)
        self.query_one("#requantize", Checkbox).value = request.allow_requantize

    def start(self) -> None:
        """Begin the job, or go where something is wrong."""
        if isinstance(self._plan, Plan):
            self.post_message(self.Started(self._plan))
        else:
            self.query_one(_FIELDS[self._plan.field]).focus()

    @on(Select.Changed, "#kind")
    def _kind_changed(self) -> None:
        self._show_kind()
        self._changed()

    @on(Button.Pressed, "#start")
    def _start_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.start()

    @on(ModelSelect.Changed)
    @on(TypeTable.Changed)
    @on(Select.Changed)
    @on(Input.Changed)
    @on(Checkbox.Changed)
    def _changed(self) -> None:
        self._look_again()

    def _show_kind(self) -> None:
        kind = self.kind
        self.query_one("#other-row").set_class(kind != "evaluate", "-hidden")
        for name in ("#types", "#method", "#texts"):
            widget = self.query_one(name)
            (widget if name == "#types" else widget.parent or widget).set_class(kind == "evaluate", "-hidden")
        for name in ("#target", "#output", "#report"):
            parent = self.query_one(name).parent
            assert parent is not None
            parent.set_class(kind != "quantize", "-hidden")
        self.query_one(TypeTable).choose_several(is_multiple=kind == "compare")

    def refresh_plan(self) -> None:
        """Look at the disk and at the models again."""
        self._prospects.clear()
        self._changed()

    @work(group="look", exclusive=True)
    async def _look_again(self) -> None:
        source = await self._prospect(self.query_one("#source", ModelSelect).path)
        other = await self._prospect(self.query_one("#other", ModelSelect).path) if self.kind == "evaluate" else None
        self.query_one(TypeTable).show_sizes(source.sizes if isinstance(source, Prospect) else {})
        self._propose_name()
        wrong = [(name, found) for name, found in (("source", source), ("other", other)) if _is_error(found)]
        if wrong:
            self._plan = Problem(wrong[0][0], str(wrong[0][1]))
        else:
            known, its = (found if isinstance(found, Prospect) else None for found in (source, other))
            self._plan = await asyncio.to_thread(plan, self._choices(), known, its, paths.models_dir())
        self._show_plan()

    async def _prospect(self, path: Path | None) -> Prospect | LocalLLMError | None:
        if path is None:
            return None
        if path not in self._prospects:
            try:
                self._prospects[path] = await asyncio.to_thread(look, path)
            except LocalLLMError as error:
                self._prospects[path] = error
        return self._prospects[path]

    def _propose_name(self) -> None:
        """Name the file after its type, unless the user has named it."""
        source, field = self.query_one("#source", ModelSelect).path, self.query_one("#output", Input)
        if source is None or field.value != self._proposed:
            return
        has_target = bool(self.query_one("#target", Input).value.strip())
        types = self.query_one(TypeTable).chosen
        self._proposed = default_name(source, "sized" if has_target or not types else types[0])
        with self.prevent(Input.Changed):
            field.value = self._proposed

    def _choices(self) -> Choices:
        def text(name: str) -> str:
            return self.query_one(name, Input).value

        def is_ticked(name: str) -> bool:
            return self.query_one(name, Checkbox).value

        return Choices(
            self.kind,
            self.query_one("#source", ModelSelect).path,
            self.query_one("#other", ModelSelect).path,
            self.query_one(TypeTable).chosen,
            text("#target"),
            str(self.query_one("#method", Select).value),
            is_ticked("#kl-aware"),
            text("#texts"),
            text("#chunks"),
            text("#output"),
            is_ticked("#report"),
            is_ticked("#replace"),
            is_ticked("#requantize"),
        )

    def _show_plan(self) -> None:
        for field, name in _FIELDS.items():
            is_wrong = isinstance(self._plan, Problem) and self._plan.field == field
            self.query_one(name).set_class(is_wrong and field != "source", "-wrong")
        self.query_one("#outcome", Static).update(_outcome(self._plan))


def _outcome(found: Plan | Problem) -> Content:
    if isinstance(found, Problem):
        return Content.assemble(("! ", "$warning bold"), found.text)
    forecast = found.forecast
    lines = [f"About {duration(forecast.total_s)}, with {size(forecast.memory_bytes)} of memory or more"]
    lines[0] += f" ({size(found.free_memory_bytes)} free)."
    if forecast.disk_bytes:
        lines.append(f"Up to {size(forecast.disk_bytes)} on the disk, {size(found.free_disk_bytes)} free.")
    content = Content("\n".join(lines))
    return content + Content.assemble(("\n! ", "$warning bold"), found.warning) if found.warning else content


def _target_text(request: QuantizeRequest) -> str:
    if request.target_bpw is not None:
        return f"{request.target_bpw:g}"
    return "" if request.target_bytes is None else str(request.target_bytes)


def _is_error(found: object) -> bool:
    return isinstance(found, LocalLLMError)
