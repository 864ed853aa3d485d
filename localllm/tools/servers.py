"""All tool servers of the user's, and their tools under the names that models call them by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from localllm.errors import LocalLLMError, RequestError, ToolServerError
from localllm.tools.config import ToolConfig
from localllm.tools.connection import START_LIMIT_S, Connection, ServerState
from localllm.tools.names import model_names
from localllm.tools.results import ToolResult
from localllm.tools.tool import ServerTool


@dataclass(frozen=True)
class NamedTool:
    """A tool, and what models call it."""

    model_name: str
    tool: ServerTool


def check_installed() -> None:
    """Check that the library for tool servers is there.

    Raises:
        ToolServerError: it is not; the hint says how to get it.
    """
    if find_spec("mcp") is None:
        raise ToolServerError("Tools need the mcp library.", hint="pip install 'localllm[tools]'")


class ToolServers:
    """The servers of one configuration. Nothing is started before it is wanted. All methods belong to one loop.

    Args:
        config: what the file says.
        changed: called whenever the state of a server changed.
        start_limit_s: how long a server may take to start.
    """

    def __init__(
        self,
        config: ToolConfig,
        changed: Callable[[], None] = lambda: None,
        *,
        start_limit_s: float = START_LIMIT_S,
    ) -> None:
        self.config = config
        self._connections = {
            server.name: Connection(server, changed, start_limit_s=start_limit_s) for server in config.servers
        }

    @property
    def states(self) -> tuple[ServerState, ...]:
        """All servers, in the file's order."""
        return tuple(connection.state for connection in self._connections.values())

    @property
    def tools(self) -> tuple[NamedTool, ...]:
        """The tools of all servers that have told theirs, those too that will have to be started again."""
        tools = [tool for state in self.states for tool in state.tools]
        names = model_names((tool.server, tool.name) for tool in tools)
        return tuple(NamedTool(names[tool.server, tool.name], tool) for tool in tools)

    def find(self, model_name: str) -> NamedTool | None:
        """Return the tool that models call so; None if there is none."""
        return next((named for named in self.tools if named.model_name == model_name), None)

    async def start_all(self) -> None:
        """Start all servers that are not ready; what fails is in their states.

        Raises:
            ToolServerError: the library is not installed.
        """
        if self._connections:
            check_installed()
        await asyncio.gather(*(self._start(connection) for connection in self._connections.values()))

    async def restart(self, name: str) -> None:
        """End a server and start it again.

        Raises:
            ToolServerError: it does not start.
            RequestError: there is no such server.
        """
        connection = self._connection(name)
        await connection.stop()
        check_installed()
        await connection.start()

    async def call(self, model_name: str, arguments: dict[str, Any]) -> ToolResult:
        """Call a tool.

        Raises:
            RequestError: there is no such tool.
            ToolServerError: its server is not there, died meanwhile, or took too long.
        """
        named = self.find(model_name)
        if named is None:
            raise RequestError(f"There is no tool {model_name!r}.", hint="Use one of those that were offered.")
        return await self._connection(named.tool.server).call(named.tool.name, arguments)

    async def stop_all(self) -> None:
        """End all servers and their processes."""
        await asyncio.gather(*(connection.stop() for connection in self._connections.values()))

    def _connection(self, name: str) -> Connection:
        if name not in self._connections:
            raise RequestError(f"There is no tool server {name!r}.", hint=f"See {self.config.file}")
        return self._connections[name]

    @staticmethod
    async def _start(connection: Connection) -> None:
        try:
            await connection.start()
        except LocalLLMError:
            assert connection.state.error is not None
