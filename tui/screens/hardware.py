"""This machine: its memory and who holds it, what it has, and how fast models are on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widgets import Static

from localllm.engine.stats import EngineStats
from localllm.errors import LocalLLMError
from tui.engines import EngineState
from tui.machine.children import TalkingChild
from tui.machine.history import SpeedHistory, SpeedRun
from tui.machine.memory import device_memory, ram_memory, read_ram
from tui.messages import EngineChanged, ModelsChanged
from tui.screens.mode import ModeScreen
from tui.widgets.check_list import CheckList
from tui.widgets.engine_table import EngineTable
from tui.widgets.memory_gauge import MemoryGauges
from tui.widgets.panes import Pane, Panes
from tui.widgets.speed_view import SpeedView

EVERY_S = 1.0


class Child(Protocol):
    """A process that says JSON lines."""

    def lines(self) -> AsyncIterator[dict[str, Any]]: ...
    def ask(self) -> None: ...
    def end(self) -> None: ...


def start_child(arguments: Sequence[str]) -> Child:
    """Start a process of ours; tests replace it."""
    return TalkingChild(arguments)


class HardwareScreen(ModeScreen):
    """Gauges that move while one looks, a check-up, and a benchmark with its history."""

    MODE = "hardware"
    DEFAULT_CSS = """
    HardwareScreen #pane-memory {
        overflow-y: auto;
    }
    HardwareScreen MemoryGauges {
        margin-bottom: 1;
    }
    HardwareScreen #no-engines {
        color: $text-muted;
    }
    HardwareScreen Panes.-roomy > #pane-speed {
        column-span: 2;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "next_pane", "View", id="hardware.next_pane", tooltip="Show memory, the check-up, or speed"),
        Binding("x", "unload", "Unload", id="hardware.unload", tooltip="Give the memory of the engine back"),
        Binding("r", "check", "Check again", id="hardware.check", tooltip="Look at the machine again"),
        Binding("b", "measure", "Benchmark", id="hardware.measure", tooltip="Measure the chosen model's speed"),
        Binding("escape", "cancel", "Stop", id="hardware.cancel", tooltip="Stop the benchmark"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._checker: Child | None = None
        self._measurer: Child | None = None
        self._devices: list[dict[str, Any]] = []
        self._findings: list[dict[str, Any]] = []
        self._ticks: Timer | None = None
        self._is_looking = False

    def compose_body(self) -> ComposeResult:
        yield Panes(
            Pane(
                "Memory",
                MemoryGauges(id="gauges"),
                EngineTable(id="engines"),
                Static("No model is loaded in this app.", id="no-engines"),
                id="pane-memory",
            ),
            Pane("Check-up", CheckList(id="check-list"), id="pane-check"),
            Pane("Speed", SpeedView(id="speed"), id="pane-speed"),
            id="hardware-panes",
        )

    def on_mount(self) -> None:
        self._ticks = self.set_interval(EVERY_S, self.look)
        self.look()
        self.check_machine()
        self.load_models()
        self.show_history()

    def on_screen_resume(self) -> None:
        if self._ticks is not None:
            self._ticks.resume()
            self.look()

    def on_screen_suspend(self) -> None:
        if self._ticks is not None:
            self._ticks.pause()

    def on_unmount(self) -> None:
        for child in (self._checker, self._measurer):
            if child is not None:
                child.end()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "cancel":
            return self._measurer is not None
        if action == "measure":
            return self._measurer is None
        if action == "unload":
            return bool(self.services.engines.states)
        return True

    # Memory.

    @work(group="look")
    async def look(self) -> None:
        """Look at the memory and the engines now, unless somebody does."""
        if self._is_looking:
            return
        self._is_looking = True
        try:
            await self._look()
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        states = self.services.engines.states
        ram, stats = await asyncio.to_thread(lambda: (read_ram(), _stats(states)))
        uses = [state.llm.info.memory for state in states if state.llm is not None and state.llm.info.memory]
        view = self.services.server.view
        served = sum(int(model.get("memory_bytes") or 0) for model in view.models) if view.is_own else 0
        memories = [ram_memory(ram, uses, served), *(device_memory(device, uses) for device in self._devices)]
        self.query_one(MemoryGauges).show(memories)
        self._show_engines(states, stats)
        if self._devices and self._checker is not None:
            self._checker.ask()

    def _show_engines(self, states: Sequence[EngineState], stats: dict[str, EngineStats]) -> None:
        table = self.query_one(EngineTable)
        table.show(states, stats)
        table.display = bool(states)
        self.query_one("#no-engines").display = not states

    def on_engine_changed(self, message: EngineChanged) -> None:
        self.refresh_bindings()
        self.look()

    @work(group="unload")
    async def action_unload(self) -> None:
        ref = self.query_one(EngineTable).chosen
        if ref is not None:
            await self.services.engines.close(ref)
            self.notify(f"{ref} is unloaded.", markup=False)
            self.look()

    # The check-up.

    def action_check(self) -> None:
        self.query_one(Panes).show_pane("pane-check")
        self.check_machine()

    @work(exclusive=True, group="check")
    async def check_machine(self) -> None:
        """Have a process look at the machine, and go on answering for its devices."""
        if self._checker is not None:
            self._checker.end()
        self._findings, checklist = [], self.query_one(CheckList)
        child = self._checker = start_child(["tui.machine.check_child", *self.services.settings.rpc])
        checklist.show([], is_done=False)
        is_done = False
        try:
            async for said in child.lines():
                self._devices = said.get("devices", self._devices)
                if "finding" in said:
                    self._findings.append(said["finding"])
                is_done = is_done or "is_done" in said
                if "devices" not in said:
                    checklist.show(self._findings, is_done=is_done)
        except LocalLLMError as error:
            checklist.show(self._findings, is_done=True, problem=f"{error.message} Press r to look again.")

    # Speed.

    @work(exclusive=True, group="models")
    async def load_models(self) -> None:
        """Look at the disk."""
        self.query_one(SpeedView).offer(await asyncio.to_thread(_stored_models))

    def on_models_changed(self, message: ModelsChanged) -> None:
        self.load_models()

    @work(exclusive=True, group="history")
    async def show_history(self) -> None:
        """Show what was measured before."""
        self.query_one(SpeedView).show(await asyncio.to_thread(lambda: SpeedHistory().read()))

    @work(exclusive=True, group="speed")
    async def action_measure(self) -> None:
        panes, speed = self.query_one(Panes), self.query_one(SpeedView)
        panes.show_pane("pane-speed")
        ref = speed.chosen
        if ref is None:
            speed.say("Choose a model first; fetch one with F3 if there is none.", is_bad=True)
            return
        settings = self.services.settings
        threads = "" if settings.threads is None else str(settings.threads)
        child = self._measurer = start_child(["tui.machine.speed_child", ref, threads, str(settings.gpu_layers)])
        self.refresh_bindings()
        speed.say(f"Loading {ref}.")
        result: dict[str, Any] | None = None
        try:
            async for said in child.lines():
                if "share" in said:
                    speed.say(f"Loading {ref}: {said['share']:.0%}.")
                elif "round" in said:
                    speed.say(f"Measuring {ref}: round {said['round']} of at most {said['of']}.")
                elif "error" in said:
                    speed.say(f"{said['error']['message']} {said['error']['hint'] or ''}".rstrip(), is_bad=True)
                result = said.get("result", result)
            if result is not None:
                await self._keep(result)
        except LocalLLMError as error:
            if self._measurer is child:
                speed.say(f"{error.message} {error.hint or ''}".rstrip(), is_bad=True)
        finally:
            if self._measurer is child:
                self._measurer = None
            self.refresh_bindings()

    async def _keep(self, result: dict[str, Any]) -> None:
        run = SpeedRun.of({**result, "time": datetime.now(UTC).isoformat(timespec="seconds")})
        speed = self.query_one(SpeedView)
        speed.say(
            f"{run.model} reads {run.prompt_tok_s:,.0f} and writes {run.generation_tok_s:,.1f} tokens/s "
            f"(quartiles {run.low_tok_s:,.1f} to {run.high_tok_s:,.1f})."
        )
        # What was read before this run was kept must not be shown after it.
        self.workers.cancel_group(self, "history")
        speed.show(await asyncio.to_thread(SpeedHistory().add, run))

    def action_cancel(self) -> None:
        child, self._measurer = self._measurer, None
        if child is not None:
            child.end()
            self.query_one(SpeedView).say("The benchmark was stopped.")
        self.refresh_bindings()

    def action_next_pane(self) -> None:
        self.query_one(Panes).show_next()


def _stats(states: Sequence[EngineState]) -> dict[str, EngineStats]:
    found = {}
    for state in states:
        if state.llm is not None:
            try:
                found[state.ref] = state.llm.stats()
            except LocalLLMError:
                continue
    return found


def _stored_models() -> dict[str, str]:
    from localllm.store.inventory import Inventory

    inventory = Inventory()
    return {inventory.ref(model): model.names[0] for model in inventory.models}
