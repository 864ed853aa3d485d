"""The app: its modes, what they share, and the messages between them."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.notifications import SeverityLevel

from localllm.config import Settings, load_settings
from tui import messages
from tui.engines import Engines, OpenLLM
from tui.jobs import Job, Jobs
from tui.modes import ALL_MODES
from tui.screens.confirm import ConfirmScreen
from tui.screens.mode import ModeScreen
from tui.services import Services
from tui.themes import AUTO, OWN_THEMES, chosen_theme


class LocalLLM(App[None]):
    """localllm in a terminal.

    Args:
        settings: None: from the environment and the file.
        open_llm: None: `localllm.load`. Tests script one.
    """

    TITLE = "localllm"
    CSS_PATH = "app.tcss"
    MODES = {mode.name: mode.screen for mode in ALL_MODES}  # noqa: RUF012
    DEFAULT_MODE = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(mode.key, f"switch_mode('{mode.name}')", mode.title, id=f"app.{mode.name}", show=False)
            for mode in ALL_MODES
        ),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", show=False, priority=True),
    ]

    def __init__(self, settings: Settings | None = None, open_llm: OpenLLM | None = None) -> None:
        super().__init__()
        settings = settings or load_settings()
        self.services = Services(settings, Engines(self._engine_changed, open_llm), jobs=Jobs(self.job_changed))
        self._jobs_begun: set[int] = set()
        for theme in OWN_THEMES:
            self.register_theme(theme)
        self.theme = chosen_theme(AUTO, self.console.color_system, os.environ)

    def on_mount(self) -> None:
        self.run_worker(self._load_jobs())

    async def on_unmount(self) -> None:
        await self.services.jobs.close()
        await self.services.engines.close_all()

    def _engine_changed(self, ref: str) -> None:
        self.broadcast(messages.EngineChanged(ref))

    def job_changed(self, job: Job) -> None:
        """Tell the screens that a job went on, and the user where it ended."""
        self.broadcast(messages.JobChanged(job.id))
        if job.phase == "done" and job.kind == "quantize":
            self.broadcast(messages.ModelsChanged())
        if job.has_ended and job.id in self._jobs_begun:
            self._jobs_begun.remove(job.id)
            said = {"done": "Done", "failed": "Failed", "stopped": "Stopped"}.get(job.phase, "Interrupted")
            severity: SeverityLevel = "error" if job.phase == "failed" else "information"
            self.notify(f"{said}: {job.title}. F4 shows it.", severity=severity, markup=False)
        elif not job.has_ended:
            self._jobs_begun.add(job.id)

    async def on_quantize_model(self, message: messages.QuantizeModel) -> None:
        await self._go("quantize", message.ref)

    async def on_show_model(self, message: messages.ShowModel) -> None:
        await self._go("models", message.ref)

    async def action_quit(self) -> None:
        """Quit; with jobs that have not ended, ask first."""
        jobs = self.services.jobs.unfinished
        if not jobs:
            self.exit()
        elif not isinstance(self.screen, ConfirmScreen):
            which = f"“{jobs[0].title}” has not ended" if len(jobs) == 1 else f"{len(jobs)} jobs have not ended"
            question = f"{which}. What was measured so far stays: after the next start, r on F4 goes on. Quit?"
            self.push_screen(ConfirmScreen(question, "Stop and quit", "Stay"), self._quit_if)

    def _quit_if(self, is_wanted: bool | None) -> None:
        if is_wanted:
            self.exit()

    async def _go(self, mode: str, ref: str) -> None:
        """Show a screen with a model chosen."""
        await self.switch_mode(mode)
        if isinstance(self.screen, ModeScreen):
            await self.screen.choose(ref)

    async def _load_jobs(self) -> None:
        interrupted = await self.services.jobs.load()
        if interrupted:
            which = interrupted[-1].title if len(interrupted) == 1 else f"{len(interrupted)} jobs"
            self.notify(f"Interrupted: {which}. F4 shows it, r there goes on.", severity="warning", markup=False)

    def broadcast(self, message: Message) -> None:
        """Tell every screen that was shown so far."""
        for stack in self._screen_stacks.values():
            for screen in stack:
                screen.post_message(message)
