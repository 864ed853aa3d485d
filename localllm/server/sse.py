"""Answers that come piece by piece, and clients that hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_Result = TypeVar("_Result")

SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


class PieceStream(Response):
    """Sends the pieces of a generator as they come.

    When the client hangs up, the generator is closed at once. While there is nothing to send, `keep_alive` is.

    Args:
        pieces: bytes to send; empty ones are left out. Closed in every case.
        cleanup: closed when the answer has ended, however it ended.
        keep_alive: what to send after `keep_alive_s` of silence.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        cleanup: AsyncExitStack,
        *,
        media_type: str,
        keep_alive: bytes,
        keep_alive_s: float,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        self._pieces = pieces
        self._cleanup = cleanup
        self._keep_alive = keep_alive
        self._keep_alive_s = keep_alive_s
        self._last_sent = 0.0
        self.init_headers({**SSE_HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._cleanup:
            writer = asyncio.ensure_future(self._write(send))
            helpers = [asyncio.ensure_future(_wait_disconnect(receive)), asyncio.ensure_future(self._beat(send))]
            try:
                await asyncio.wait({writer, helpers[0]}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (writer, *helpers):
                    task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await writer
                await asyncio.gather(*helpers, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        try:
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._pieces:
                if piece:
                    await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._pieces.aclose()

    async def _beat(self, send: Send) -> None:
        while self._keep_alive:
            silent_s = time.monotonic() - self._last_sent
            if self._last_sent and silent_s >= self._keep_alive_s:
                await self._send(send, {"type": "http.response.body", "body": self._keep_alive, "more_body": True})
                silent_s = 0.0
            await asyncio.sleep(max(self._keep_alive_s - silent_s, 0.01))

    async def _send(self, send: Send, message: Message) -> None:
        self._last_sent = time.monotonic()
        await send(message)


async def unless_gone(receive: Receive, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Do `work` and return what it returns; cancel it when the client hangs up.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work())
    gone = asyncio.ensure_future(_wait_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return await task
    finally:
        for future in (task, gone):
            future.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
