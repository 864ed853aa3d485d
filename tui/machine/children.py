"""Processes of ours that say JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from localllm.errors import EngineError

_LIMIT = 1 << 20


class TalkingChild:
    """`python -m MODULE ARGUMENT…`, and what it says.

    Args:
        arguments: the module first.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._is_told_to_end = False

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Start it, and yield what it says until it ends. Whoever stops listening ends it.

        Raises:
            EngineError: it failed.
        """
        pipe = asyncio.subprocess.PIPE
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL,
            limit=_LIMIT,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                with contextlib.suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict):
                        yield said
            code = await process.wait()
        finally:
            self._kill()
            await process.wait()
        if code and not self._is_told_to_end:
            raise EngineError(f"The process that measures ended (exit code {code}).", hint="Try again.")

    def ask(self) -> None:
        """Send it an empty line, which it understands as a question."""
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.write(b"\n")

    def end(self) -> None:
        """End it now."""
        self._is_told_to_end = True
        self._kill()

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
