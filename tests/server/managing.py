"""Work with a model manager in tests: bounded in time, from plain functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from localllm.server.manager import ModelManager


def run(work: Callable[[], Awaitable[None]], timeout_s: float = 20.0) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(timeout_s):
            await work()

    asyncio.run(bounded())


async def use(manager: ModelManager, name: str | None = None, seconds: float = 0.0) -> str:
    async with manager.lease(name) as model:
        assert model.is_loaded
        await asyncio.sleep(seconds)
        return model.name


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)
