"""The tools of all chats: the servers of mcp.json, read and started when first wanted, and what each chat decided."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.errors import LocalLLMError

if TYPE_CHECKING:
    from localllm.chat.messages import ToolCall
    from localllm.tools import Approvals, PendingCall, ToolServers, Verdict

WAIT_S = 8.0
"""The longest that a question waits for tool servers to start."""


class ToolBelt:
    """Holds the tool servers of the app. All methods are called on the interface's thread.

    Args:
        changed: called when a server's state changed.
        ask: shows a call to the user and waits for what they say.
        file: None: mcp.json in the directory of settings. Tests name another.
        failed: told why a chat has no tools, once for each reason.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        ask: Callable[[PendingCall], Awaitable[Verdict]],
        file: Path | None = None,
        failed: Callable[[LocalLLMError], None] = lambda error: None,
    ) -> None:
        self.chat_id = 0
        """The chat that is shown; 0: one that is not kept yet."""
        self.servers: ToolServers | None = None
        """None: nobody wanted them so far."""
        self.ask = ask
        self._changed = changed
        self._tell_of_failure = failed
        self._told = ""
        self._file = file
        self._approvals: dict[int, Approvals] = {}
        self._opening: asyncio.Task[ToolServers] | None = None

    async def open(self) -> ToolServers:
        """Return the servers that mcp.json names; none of them is started by that.

        Raises:
            RequestError: the file cannot be read.
        """
        if self.servers is None:
            # Two chats may want them at once.
            self._opening = self._opening or asyncio.create_task(self._read())
            try:
                self.servers = await asyncio.shield(self._opening)
            finally:
                self._opening = None
        return self.servers

    async def start(self) -> None:
        """Start the servers that are not ready; what fails is in their states.

        Raises:
            RequestError: mcp.json cannot be read.
            ToolServerError: the library is not installed.
        """
        await (await self.open()).start_all()

    async def reload(self) -> None:
        """End all servers, read mcp.json again and start what it names.

        Raises:
            LocalLLMError: as `start`.
        """
        await self.close()
        await self.start()

    async def close(self) -> None:
        """End all servers and their processes."""
        servers, self.servers = self.servers, None
        if servers is not None:
            await servers.stop_all()

    def approvals(self, chat_id: int) -> Approvals:
        """Return what was decided in a chat, for as long as the app runs."""
        from localllm.tools import Approvals

        return self._approvals.setdefault(chat_id, Approvals())

    def runner(self, chat_id: int) -> ChatTools:
        """Return the tools of a chat."""
        return ChatTools(self, chat_id)

    def failed(self, error: LocalLLMError) -> None:
        """Tell why a chat has no tools."""
        if error.message != self._told:
            self._told = error.message
            self._tell_of_failure(error)

    async def _read(self) -> ToolServers:
        from localllm.tools import ToolServers, load_tool_config

        return ToolServers(await asyncio.to_thread(load_tool_config, self._file), self._changed)


class ChatTools:
    """The tools of one chat; a `tui.chat.session.ToolRunner`.

    Args:
        belt: where they come from.
        chat_id: of the conversation.
    """

    def __init__(self, belt: ToolBelt, chat_id: int) -> None:
        self._belt = belt
        self._chat_id = chat_id
        self._starting: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Start the servers, so that `specs` knows their tools; a slow one is not waited for, and there next time."""
        starting = self._starting = asyncio.create_task(self._belt.start())
        done, _ = await asyncio.wait([starting], timeout=WAIT_S)
        starting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if done and isinstance(error := starting.exception(), LocalLLMError):
            self._belt.failed(error)

    def specs(self) -> Sequence[Mapping[str, Any]]:
        """Return the functions that the model may call, in OpenAI's shape."""
        from localllm.tools import ToolRunner

        belt = self._belt
        if belt.servers is None:
            return []
        return ToolRunner(belt.servers, belt.ask, belt.approvals(self._chat_id)).specs()

    async def run(self, call: ToolCall) -> str:
        """Run a call, after asking the user, and return what the model is told."""
        from localllm.tools import ToolRunner

        belt = self._belt
        return await ToolRunner(await belt.open(), belt.ask, belt.approvals(self._chat_id)).run(call)
