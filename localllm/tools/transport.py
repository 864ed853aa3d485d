"""The way to a server: its process or its address, watched for its end."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from localllm import paths
from localllm.errors import ToolServerError
from localllm.tools.config import ServerConfig

if TYPE_CHECKING:
    from types import TracebackType

MAX_LOG_BYTES = 1 << 20
"""A log that is larger is begun anew when its server starts."""
_CONNECT_LIMIT_S = 10.0


def log_file(name: str) -> Path:
    """Return where a server's stderr goes."""
    return paths.logs_dir() / f"mcp-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:80]}.log"


@asynccontextmanager
async def open_transport(config: ServerConfig, ended: Callable[[], None]) -> AsyncGenerator[tuple[Any, Any], None]:
    """Start a server's process, or make ready to reach its address; at the end, stop it.

    Args:
        config: of the server.
        ended: called when nothing more can come from it.

    Raises:
        ToolServerError: the program cannot be started.
    """
    inner = _address(config) if config.url else _process(config)
    async with inner as (read, write):
        yield _WatchedStream(read, ended), write


@asynccontextmanager
async def _process(config: ServerConfig) -> AsyncGenerator[tuple[Any, Any], None]:
    from mcp.client.stdio import StdioServerParameters, stdio_client

    parameters = StdioServerParameters(
        command=config.command,
        args=list(config.args),
        env=dict(config.env),
        cwd=config.cwd,
        encoding_error_handler="replace",
    )
    with _open_log(config.name) as log:
        async with AsyncExitStack() as stack:
            try:
                streams = await stack.enter_async_context(stdio_client(parameters, errlog=log))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                raise ToolServerError(
                    f"{config.name} cannot be started: {config.command}: {reason}.",
                    hint="Check its command and folder in mcp.json.",
                ) from error
            yield streams


@asynccontextmanager
async def _address(config: ServerConfig) -> AsyncGenerator[tuple[Any, Any], None]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    # No limit on reading: how long an answer may take is the call's affair.
    limits = httpx2.Timeout(_CONNECT_LIMIT_S, read=None)
    async with (
        httpx2.AsyncClient(headers=dict(config.headers), timeout=limits) as client,
        streamable_http_client(config.url, http_client=client) as streams,
    ):
        yield streams


def _open_log(name: str) -> TextIO:
    file = log_file(name)
    paths.ensure(file.parent)
    is_full = file.exists() and file.stat().st_size > MAX_LOG_BYTES

    def for_owner(path: str, flags: int) -> int:
        return os.open(path, flags, 0o600)

    return open(file, "w" if is_full else "a", encoding="utf-8", errors="replace", opener=for_owner)


class _WatchedStream:
    """What comes from a server; says when it was the last."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except Exception:
            self._ended()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        left: bool | None = await self._stream.__aexit__(kind, error, trace)
        return left
