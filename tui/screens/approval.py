"""May this call be made? Shown before each call of a tool, with all that the model wants to send."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input, Label, Static

from localllm.printable import marked
from localllm.tools import PendingCall, Verdict
from tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from localllm.tools import ServerTool

GRACE_S = 0.5
"""For so long after it appears, keys decide nothing: they were meant for what was there before."""
_MAX_SHOWN_CHARS = 50_000
_N_DESCRIPTION_CHARS = 400


class ApprovalScreen(Dialog[Verdict]):
    """Shows a call; the answer is what the user says to it.

    Args:
        call: what the model wants.
        grace_s: see GRACE_S.
    """

    DEFAULT_CSS = """
    ApprovalScreen {
        & #tool { height: auto; text-style: bold; }
        & #hints { height: auto; color: $text-muted; }
        & #description { height: auto; max-height: 4; margin: 0 0 1 0; }
        & #arguments { height: auto; max-height: 45vh; background: $panel; padding: 0 1; }
        & #arguments:focus { background-tint: $foreground 5%; }
        & #reason { display: none; margin: 1 0 0 0; }
        & #reason.-shown { display: block; }
    }
    """
    HEADING = "The model wants to call a tool"
    KEYS = "y once · a always · n refuse · v never · Esc refuses"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "decide('once')", "Once", id="approval.once"),
        Binding("a", "decide('always')", "Always in this chat", id="approval.always"),
        Binding("n", "refuse", "Refuse, with a reason", id="approval.refuse"),
        Binding("v", "decide('never')", "Never in this chat", id="approval.never"),
    ]

    def __init__(self, call: PendingCall, grace_s: float = GRACE_S) -> None:
        super().__init__()
        self._call = call
        self.grace_s = grace_s
        self._quiet_since_s = time.monotonic()

    def compose_panel(self) -> ComposeResult:
        tool = self._call.named.tool
        yield Label(Content(marked(f"{tool.name} of {tool.server}")), id="tool")
        yield Label(Content(_hints(tool)), id="hints")
        if tool.description.strip():
            yield Label(Content(marked(tool.description.strip()[:_N_DESCRIPTION_CHARS])), id="description")
        yield VerticalScroll(Static(Content(_shown(self._call))), id="arguments")
        yield Input(placeholder="Why not? The model is told; Enter alone is fine", id="reason")

    def on_mount(self) -> None:
        self.query_one("#arguments").focus()

    @property
    def is_armed(self) -> bool:
        """Whether a key may decide."""
        return time.monotonic() - self._quiet_since_s >= self.grace_s

    def on_key(self, event: events.Key) -> None:
        # Who is in the middle of a word goes on being so until they have stopped.
        if event.is_printable and not self.is_armed:
            self._quiet_since_s = time.monotonic()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let no key decide before its time."""
        if action in ("decide", "refuse", "leave") and not self.is_armed:
            self._quiet_since_s = time.monotonic()
            return False
        return super().check_action(action, parameters)

    def action_decide(self, choice: Literal["once", "always", "never"]) -> None:
        """Allow it, or forbid it for good."""
        self.dismiss(Verdict(choice))

    def action_refuse(self) -> None:
        """Ask for a reason, and refuse."""
        reason = self.query_one("#reason", Input)
        reason.add_class("-shown")
        reason.focus()

    def action_leave(self) -> None:
        """Refuse without a reason."""
        self.dismiss(Verdict("refuse"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(Verdict("refuse", event.value.strip()))


async def ask(app: App[None], call: PendingCall) -> Verdict:
    """Show a call and return what the user says; who stops waiting takes the question away."""
    answered: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()

    def answer(verdict: Verdict | None) -> None:
        if not answered.done():
            answered.set_result(verdict)

    screen = ApprovalScreen(call)
    await app.push_screen(screen, answer)
    try:
        return await answered or Verdict("refuse")
    finally:
        if not answered.done() or answered.cancelled():
            await _take_away(screen)


async def _take_away(screen: ApprovalScreen) -> None:
    if screen.is_current:
        await screen.dismiss(None)
    elif screen.is_attached:
        await screen.remove()


def _hints(tool: ServerTool) -> str:
    said = (
        {True: "it only reads", False: "it changes things"}.get(tool.is_read_only)
        if tool.is_read_only is not None
        else ""
    )
    if tool.is_read_only is not True and tool.is_destructive:
        said = "it may destroy things"
    return f"The server says: {said}. Nobody has checked that." if said else "The server does not say what it changes."


def _shown(call: PendingCall) -> str:
    text = json.dumps(call.arguments, indent=2, ensure_ascii=False) if call.arguments else "No arguments."
    if len(text) > _MAX_SHOWN_CHARS:
        text = f"{text[:_MAX_SHOWN_CHARS]}\n… and {len(text) - _MAX_SHOWN_CHARS:,} more characters"
    return marked(text)
