"""The app: its modes, what they share, and the messages between them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.notifications import SeverityLevel

from localllm.config import Settings, load_settings
from localllm.errors import LocalLLMError
from tui import messages
from tui.commands import AppCommands
from tui.downloads import Download, Downloads
from tui.engines import Engines, OpenLLM
from tui.first_run import is_first_run
from tui.jobs import Job, Jobs
from tui.modes import ALL_MODES
from tui.screens.mode import ModeScreen
from tui.services import Services
from tui.serving.server import Server
from tui.settings_edit import reloaded
from tui.themes import OWN_THEMES, chosen_theme
from tui.tool_belt import ToolBelt

if TYPE_CHECKING:
    from localllm.tools import PendingCall, Verdict

SMALLEST = (80, 24)
"""Columns and lines from which on nothing is cut off."""


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
    COMMANDS = {AppCommands}  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1,question_mark", "help", "Help", id="app.help", key_display="F1", tooltip="What can be done here"),
        *(
            Binding(
                mode.key, f"switch_mode('{mode.name}')", mode.title, False, id=f"app.{mode.name}", tooltip=mode.help
            )
            for mode in ALL_MODES
        ),
        Binding("f8", "show_tools", "Tools", id="app.tools", show=False, tooltip="What models may call"),
        Binding("f9", "compare", "Compare", id="app.compare", show=False, tooltip="One question, two models"),
        Binding(
            "ctrl+p", "command_palette", "Commands", id="app.commands", priority=True, tooltip="Find what can be done"
        ),
        Binding("f12", "choose_theme", "Theme", id="app.theme", show=False, tooltip="Choose the colours"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", show=False, priority=True),
    ]

    def __init__(self, settings: Settings | None = None, open_llm: OpenLLM | None = None) -> None:
        super().__init__()
        self._was_told_of_size = False
        self._is_first_run = is_first_run()
        """Asked before the conversations are opened, which leaves a file."""
        settings = settings or load_settings()
        self.services = Services(
            settings,
            Engines(self._engine_changed, open_llm, settings),
            ToolBelt(lambda: self.broadcast(messages.ToolsChanged()), self._ask_for_call, failed=self.show_error),
            Downloads(self._download_changed),
            jobs=Jobs(self.job_changed),
            server=Server(lambda: self.broadcast(messages.ServerChanged())),
        )
        self.services.busy_checks.append(self._unfinished_jobs)
        self._jobs_begun: set[int] = set()
        self.services.busy_checks.append(self.services.server.busy)
        for theme in OWN_THEMES:
            self.register_theme(theme)
        self.theme = settings.theme if settings.theme in self.available_themes else self.default_theme

    @property
    def default_theme(self) -> str:
        """The theme of a terminal like this one."""
        return chosen_theme(self.console.color_system, os.environ)

    def on_mount(self) -> None:
        self.run_worker(self._load_jobs())
        self.apply_settings(frozenset({"theme", "keymap"}))
        if self._is_first_run:
            from tui.screens.welcome import WelcomeScreen

            self.push_screen(WelcomeScreen())

    def on_resize(self, event: events.Resize) -> None:
        is_small = event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1]
        if is_small and not self._was_told_of_size:
            self._was_told_of_size = True
            self.notify(
                f"This terminal has {event.size.width} × {event.size.height} characters; from"
                f" {SMALLEST[0]} × {SMALLEST[1]} on everything has room.",
                severity="warning",
                markup=False,
            )

    async def on_unmount(self) -> None:
        await self.services.jobs.close()
        if self.services.sessions is not None:
            await self.services.sessions.close_all()
        await self.services.server.close()
        await self.services.downloads.close()
        await self.services.tools.close()
        await self.services.engines.close_all()
        if self.services.conversations is not None:
            await asyncio.to_thread(self.services.conversations.close)

    def apply_settings(self, names: frozenset[str]) -> None:
        """Have the interface look as the settings say, as far as these settings are concerned."""
        settings = self.services.settings
        if "theme" in names:
            name = settings.theme if settings.theme != "auto" else self.default_theme
            if name in self.available_themes:
                self.theme = name
            else:
                self.notify(f"There is no theme {name}. F12 shows which there are.", severity="warning", markup=False)
        if "keymap" in names:
            self.set_keymap(dict(settings.keymap))

    def reload_settings(self, names: frozenset[str]) -> None:
        """Take settings that were changed in the file, and tell every screen.

        Raises:
            RequestError: what the file or the environment says is not allowed.
        """
        self.services.settings = reloaded(self.services.settings)
        self.services.engines.settings = self.services.settings
        self.apply_settings(names)
        self.broadcast(messages.SettingsChanged(names))

    def show_error(self, error: LocalLLMError) -> None:
        """Tell what went wrong, and what to do about it."""
        text = f"{error.message}\n{error.hint}" if error.hint else error.message
        self.notify(text, severity="error", markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # While a key is waited for, none of the app's own does anything.
        return not self.screen.has_class("-takes-every-key")

    async def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        await self.push_screen(HelpScreen(self.screen))

    def action_choose_theme(self) -> None:
        from tui.screens.edit_setting import EditSetting

        self.push_screen(EditSetting("theme"))

    async def action_quit(self) -> None:
        endings = self.services.busy()
        if not endings:
            self.exit()
            return
        from tui.screens.confirm_quit import ConfirmQuit

        if not isinstance(self.screen, ConfirmQuit):
            await self.push_screen(ConfirmQuit(endings), self._quit_if)

    def _quit_if(self, is_meant: bool | None) -> None:
        if is_meant:
            self.exit()

    async def on_chat_with(self, message: messages.ChatWith) -> None:
        await self._go("chat", message.ref)

    async def on_quantize_model(self, message: messages.QuantizeModel) -> None:
        await self._go("quantize", message.ref)

    async def on_show_model(self, message: messages.ShowModel) -> None:
        await self._go("models", message.ref)

    async def on_serve_model(self, message: messages.ServeModel) -> None:
        await self._go("serve", message.ref)

    async def on_fetch_model(self, message: messages.FetchModel) -> None:
        self.services.downloads.start(message.ref)
        await self.switch_mode("models")

    async def _go(self, mode: str, ref: str) -> None:
        """Show a screen with a model chosen."""
        await self.switch_mode(mode)
        if isinstance(self.screen, ModeScreen):
            await self.screen.choose(ref)

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

    def _unfinished_jobs(self) -> list[str]:
        jobs = self.services.jobs.unfinished
        return [
            f"{job.title}: what was measured so far stays, and r on F4 goes on after the next start." for job in jobs
        ]

    async def _load_jobs(self) -> None:
        interrupted = await self.services.jobs.load()
        if interrupted:
            which = interrupted[-1].title if len(interrupted) == 1 else f"{len(interrupted)} jobs"
            self.notify(f"Interrupted: {which}. F4 shows it, r there goes on.", severity="warning", markup=False)

    def _download_changed(self, download: Download) -> None:
        self.broadcast(messages.DownloadChanged(download.id))
        if download.phase == "done":
            self.notify(f"{download.ref} is here.", markup=False)
            self.broadcast(messages.ModelsChanged())

    @property
    def status_texts(self) -> tuple[str, ...]:
        """What goes on in the background, each in a few letters."""
        return (*self.services.downloads.texts, *self.services.jobs.texts)

    async def _ask_for_call(self, call: PendingCall) -> Verdict:
        from tui.screens.approval import ask

        return await ask(self, call)

    def action_show_tools(self) -> None:
        """Show the tool servers and what the present chat may call."""
        from tui.screens.tools import ToolsScreen

        self.push_screen(ToolsScreen(self.services.tools))

    def action_compare(self) -> None:
        """Ask two models the same; the first is the one that was used last."""
        ready = [state.ref for state in self.services.engines.states if state.phase == "ready"]
        self.on_compare_models(messages.CompareModels(ready[-1] if ready else "", ""))

    def on_compare_models(self, event: messages.CompareModels) -> None:
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(self.services, event.ref_a, event.ref_b))

    def broadcast(self, message: Message) -> None:
        """Tell every screen that was shown so far."""
        for stack in self._screen_stacks.values():
            for screen in stack:
                screen.post_message(message)
