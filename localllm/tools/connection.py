"""One server: started when it is first wanted, asked for its tools and for calls, started again when it died.

The library's scopes must be left by the task that entered them, so each server has a task of its own that holds the
connection open. Others ask through it, as long as it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from localllm.errors import LocalLLMError, ToolServerError
from localllm.tools.config import ServerConfig
from localllm.tools.results import ToolResult, read_result
from localllm.tools.tool import ServerTool, read_tool
from localllm.tools.transport import log_file, open_transport

if TYPE_CHECKING:
    from mcp.client import Client

Phase = Literal["stopped", "starting", "ready", "failed"]

START_LIMIT_S = 60.0
"""Programs such as npx fetch the server first."""
MAX_PAGES = 50
MAX_TOOLS = 512
_GRACE_S = 5.0
"""How much later than the library's own limit a call is given up."""


@dataclass(frozen=True)
class ServerState:
    """One server at one moment."""

    config: ServerConfig
    phase: Phase = "stopped"
    tools: tuple[ServerTool, ...] = ()
    """What it had when it was last asked, also where it has ended since."""
    error: LocalLLMError | None = None


@dataclass
class _Open:
    """A connection that is being held open."""

    client: Client | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """It shall end, or has ended."""
    has_died: bool = False


class Connection:
    """One server. All methods belong to one loop.

    Args:
        config: how it is started.
        changed: called whenever `state` has changed.
        start_limit_s: how long it may take until it has told its tools.
    """

    def __init__(
        self, config: ServerConfig, changed: Callable[[], None], *, start_limit_s: float = START_LIMIT_S
    ) -> None:
        self.state = ServerState(config)
        self._changed = changed
        self._start_limit_s = start_limit_s
        self._keeper: asyncio.Task[None] | None = None
        self._open = _Open()
        self._started: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Start the server, if it is not ready, and wait until it has told its tools.

        Raises:
            ToolServerError: it cannot be started, or does not answer.
        """
        if self._started is None or (self._started.done() and self.state.phase != "ready"):
            await self.stop()
            self._started = asyncio.get_running_loop().create_future()
            # Nobody may be waiting any more when it fails.
            self._started.add_done_callback(lambda started: started.cancelled() or started.exception())
            self._set(replace(self.state, phase="starting", error=None))
            self._open = _Open()
            self._keeper = asyncio.create_task(self._keep(self._open, self._started))
        await asyncio.shield(self._started)

    async def stop(self) -> None:
        """End the server and its process."""
        keeper, self._keeper, started = self._keeper, None, self._started
        self._started = None
        if keeper is None:
            return
        self._open.over.set()
        if started is not None and not started.done():
            keeper.cancel()
        await asyncio.wait([keeper])
        if started is not None and not started.done():
            started.set_exception(ToolServerError(f"{self._name} was stopped."))
        if self.state.phase != "failed":
            self._set(replace(self.state, phase="stopped", error=None))

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        """Call a tool. A server that has died since its last call is started again first.

        Raises:
            ToolServerError: the server is not there, died meanwhile, or took too long.
        """
        await self.start()
        opened, limit_s = self._open, self.state.config.call_limit_s
        assert opened.client is not None
        calling = asyncio.create_task(opened.client.call_tool(tool, arguments, read_timeout_seconds=limit_s))
        over = asyncio.create_task(opened.over.wait())
        try:
            await asyncio.wait([calling, over], timeout=limit_s + _GRACE_S, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done() and opened.has_died:
                # The library fails what waits for a dead server by itself, a moment later.
                await asyncio.wait([calling], timeout=_GRACE_S)
            if not calling.done():
                raise self._too_late(tool, limit_s)
            return read_result(calling.result())
        except LocalLLMError:
            raise
        except Exception as error:
            raise self._call_error(tool, error, opened, limit_s) from error
        finally:
            for task in (calling, over):
                task.cancel()

    async def _keep(self, opened: _Open, started: asyncio.Future[None]) -> None:
        """Hold the connection open until it shall end, or ends."""
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(self._start_limit_s):
                        await self._connect(opened, stack)
                except Exception as error:
                    self._fail(self._start_error(error))
                    _settle(started, self.state.error)
                    return
                _settle(started, None)
                await opened.over.wait()
                if opened.has_died:
                    self._fail(self._ended())
        except Exception as error:
            # What the library raises while it closes a connection that is broken anyway.
            self._fail(self._start_error(error))
        finally:
            opened.over.set()
            _settle(started, self.state.error)

    async def _connect(self, opened: _Open, stack: AsyncExitStack) -> None:
        from mcp.client import Client

        def ended() -> None:
            opened.has_died = not opened.over.is_set()
            opened.over.set()

        async def heard(message: Any) -> None:
            if getattr(message, "method", "") == "notifications/tools/list_changed":
                self._refresh(opened)

        transport = open_transport(self.state.config, ended)
        client = Client(transport, message_handler=heard, cache=None)
        opened.client = await stack.enter_async_context(client)
        self._set(replace(self.state, tools=await self._list(client)))
        listening = asyncio.create_task(self._listen(opened))
        stack.callback(listening.cancel)
        self._set(replace(self.state, phase="ready"))

    async def _list(self, client: Client) -> tuple[ServerTool, ...]:
        found: dict[str, ServerTool] = {}
        cursor = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                found.setdefault(tool.name, await asyncio.to_thread(read_tool, self._name, tool))
            cursor = page.next_cursor
            if cursor is None or len(found) >= MAX_TOOLS:
                break
        return tuple(found.values())[:MAX_TOOLS]

    async def _listen(self, opened: _Open) -> None:
        """Hear of changes from servers of the newer protocol, where one has to ask for that."""
        assert opened.client is not None
        # Servers of the older protocol cannot be asked, and send what `heard` hears.
        with suppress(Exception):
            async with opened.client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._refresh(opened)

    def _refresh(self, opened: _Open) -> None:
        async def refresh() -> None:
            # A server that fails here fails the next call, too, where somebody waits for it.
            with suppress(Exception):
                assert opened.client is not None
                tools = await self._list(opened.client)
                if not opened.over.is_set():
                    self._set(replace(self.state, tools=tools))

        self._refreshing = asyncio.create_task(refresh())

    def _start_error(self, error: BaseException) -> LocalLLMError:
        error = _innermost(error)
        if isinstance(error, LocalLLMError):
            return error
        reason = f"it did not answer within {self._start_limit_s:g} s" if _is_timeout(error) else _reason(error)
        return ToolServerError(f"{self._name} does not start: {reason}.", hint=self._where_to_look())

    def _ended(self) -> ToolServerError:
        return ToolServerError(f"{self._name} has ended.", hint=f"The next call starts it. {self._where_to_look()}")

    def _too_late(self, tool: str, limit_s: float) -> ToolServerError:
        return ToolServerError(
            f"{self._name}: {tool} gave no answer within {limit_s:g} s.", hint='Raise its "timeout" in mcp.json.'
        )

    def _call_error(self, tool: str, error: Exception, opened: _Open, limit_s: float) -> LocalLLMError:
        if opened.has_died:
            return ToolServerError(f"{self._name} ended while {tool} ran.", hint=self._where_to_look())
        if _is_timeout(error):
            return self._too_late(tool, limit_s)
        if _is_network(error):
            # The session may be lost with the server; the next call begins another.
            opened.has_died = True
            opened.over.set()
        return ToolServerError(f"{self._name}: {tool} failed: {_reason(error)}.", hint=self._where_to_look())

    def _where_to_look(self) -> str:
        config = self.state.config
        return f"Check its address: {config.url}" if config.url else f"What it said is in {log_file(config.name)}"

    @property
    def _name(self) -> str:
        return self.state.config.name

    def _fail(self, error: LocalLLMError) -> None:
        self._set(replace(self.state, phase="failed", error=error))

    def _set(self, state: ServerState) -> None:
        self.state = state
        self._changed()


def _settle(started: asyncio.Future[None], error: LocalLLMError | None) -> None:
    if started.done():
        return
    if error is None:
        started.set_result(None)
    else:
        started.set_exception(error)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_timeout(error: BaseException) -> bool:
    from mcp_types import REQUEST_TIMEOUT

    return isinstance(error, TimeoutError) or getattr(error, "code", None) == REQUEST_TIMEOUT


def _is_network(error: BaseException) -> bool:
    import httpx2
    from mcp_types import CONNECTION_CLOSED

    return isinstance(error, httpx2.HTTPError | OSError) or getattr(error, "code", None) == CONNECTION_CLOSED


def _reason(error: BaseException) -> str:
    from localllm.gguf import printable

    return printable(str(error) or type(error).__name__, 300).rstrip(".")
