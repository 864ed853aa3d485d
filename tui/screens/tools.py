"""The tool servers: how each is, what it offers, and what the present chat may call."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localllm.errors import LocalLLMError
from localllm.printable import marked
from tui.messages import ToolsChanged
from tui.screens.dialog import Dialog
from tui.tool_belt import ToolBelt

if TYPE_CHECKING:
    from localllm.tools import Approvals, NamedTool, ServerState

_PHASES = {"stopped": "not started", "starting": "starting…", "ready": "ready", "failed": "failed"}
_STANDING = {"always": "always allowed", "never": "never allowed"}


class ToolsScreen(Dialog[None]):
    """Lists servers and tools; switches tools on and off for the chat that is shown.

    Args:
        belt: where the tools are.
    """

    DEFAULT_CSS = """
    ToolsScreen {
        & #found { border: none; padding: 0; background: $surface; height: 1fr; }
        & #found:focus { border: none; }
        & #details { height: auto; max-height: 40%; border-top: solid $panel; padding: 0; }
    }
    """
    HEADING = "Tools"
    KEYS = "Space on, off · f ask again · r restart · l reload · Esc closes"
    IS_TALL = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "switch", "On, off", id="tools.switch"),
        Binding("f", "forget", "Ask again", id="tools.forget", tooltip="Forget that it is always or never allowed"),
        Binding("r", "restart", "Restart the server", id="tools.restart"),
        Binding("l", "reload", "Read mcp.json again", id="tools.reload"),
    ]

    def __init__(self, belt: ToolBelt) -> None:
        super().__init__()
        self._belt = belt
        self._rows: list[ServerState | NamedTool | str] = []
        self._error: LocalLLMError | None = None

    def compose_panel(self) -> ComposeResult:
        yield OptionList(id="found", markup=False)
        yield VerticalScroll(Static(id="detail", markup=False), id="details", can_focus=False)

    def on_mount(self) -> None:
        self._work(self._belt.start())
        self._show()

    def on_tools_changed(self, event: ToolsChanged) -> None:
        self._show()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._show_detail()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_switch()

    def action_switch(self) -> None:
        """Tell the model of this tool, or do not."""
        if (named := self._tool) is not None:
            self._approvals.switch(named.model_name, on=not self._approvals.is_on(named.model_name))
            self._show()

    def action_forget(self) -> None:
        """Ask for each call of this tool again."""
        if (named := self._tool) is not None:
            self._approvals.forget(named.model_name)
            self._show()

    def action_restart(self) -> None:
        """Start the server of this row anew."""
        servers, name = self._belt.servers, self._server_name
        if servers is not None and name is not None:
            self._work(servers.restart(name))

    def action_reload(self) -> None:
        """End all servers, and start what the file names now."""
        self._work(self._belt.reload())

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
                self._error = None
            except LocalLLMError as error:
                self._error = error
            self._show()

        self.run_worker(guarded(), exit_on_error=False)

    @property
    def _approvals(self) -> Approvals:
        return self._belt.approvals(self._belt.chat_id)

    @property
    def _row(self) -> ServerState | NamedTool | str | None:
        place = self.query_one("#found", OptionList).highlighted
        return self._rows[place] if place is not None and place < len(self._rows) else None

    @property
    def _tool(self) -> NamedTool | None:
        from localllm.tools import NamedTool

        return self._row if isinstance(self._row, NamedTool) else None

    @property
    def _server_name(self) -> str | None:
        from localllm.tools import ServerState

        if (named := self._tool) is not None:
            return named.tool.server
        return self._row.config.name if isinstance(self._row, ServerState) else None

    def _show(self) -> None:
        if not self.is_mounted:
            return
        found = self.query_one("#found", OptionList)
        place, rows = found.highlighted, list(self._read_rows())
        self._rows = [row for row, _ in rows]
        found.set_options([Option(text) for _, text in rows])
        if rows:
            found.highlighted = min(place or 0, len(rows) - 1)
        self._show_detail()

    def _read_rows(self) -> Iterator[tuple[ServerState | NamedTool | str, Content]]:
        servers = self._belt.servers
        if servers is None:
            return
        for name, problem in servers.config.problems.items():
            yield f"{name}: {problem}", Content.assemble((marked(name), "bold"), "  not usable")
        for state in servers.states:
            tools = [named for named in servers.tools if named.tool.server == state.config.name]
            count = f" · {len(tools)} tool{'s' * (len(tools) != 1)}" if state.phase == "ready" else ""
            yield state, Content.assemble((marked(state.config.name), "bold"), f"  {_PHASES[state.phase]}{count}")
            for named in tools:
                yield named, self._tool_row(named)

    def _tool_row(self, named: NamedTool) -> Content:
        verdict = self._approvals.standing(named.model_name)
        mark = "[x]" if self._approvals.is_on(named.model_name) else "[ ]"
        note = f"{_STANDING[verdict.choice]} · " if verdict is not None else ""
        first_line = named.tool.description.strip().partition("\n")[0]
        return Content.assemble(f"  {mark} {marked(named.tool.name)}  ", (f"{note}{marked(first_line)}", "dim"))

    def _show_detail(self) -> None:
        self.query_one("#detail", Static).update(Content(self._detail()))

    def _detail(self) -> str:
        from localllm.tools import ServerState

        servers, row = self._belt.servers, self._row
        if self._error is not None:
            return marked(f"{self._error.message} {self._error.hint or ''}".strip())
        if servers is None:
            return "Reading mcp.json…"
        if row is None:
            from localllm.tools.config import EXAMPLE

            return (
                f"There are no tool servers yet. Name them in\n{servers.config.file}\nsuch as {EXAMPLE}\nand press l."
            )
        if isinstance(row, str):
            return marked(f"{row} It is in {servers.config.file}")
        if (named := self._tool) is not None:
            return _tool_detail(named)
        return _server_detail(row) if isinstance(row, ServerState) else ""


def _server_detail(state: ServerState) -> str:
    lines = [state.config.summary]
    if state.error is not None:
        lines += [state.error.message, state.error.hint or ""]
    return marked("\n".join(line for line in lines if line))


def _tool_detail(named: NamedTool) -> str:
    tool = named.tool
    names = ", ".join(tool.schema.get("properties", {})) or "none"
    lines = [f"{named.model_name}", tool.description.strip(), f"Arguments: {names}"]
    if tool.is_simplified:
        lines.append("Its schema is simplified for the grammar; the server checks the rest.")
    if tool.is_read_only:
        lines.append("The server says that it only reads. Every call is asked for all the same.")
    return marked("\n".join(line for line in lines if line))
