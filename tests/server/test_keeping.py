"""How long models stay loaded, where clients say so."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

from localllm.llm import LLM
from localllm.server.manager import ModelEntry, ModelManager
from tests.scripted_backend import ScriptedBackend


def make_manager(idle_s: float | None = None, *, pinned: bool = False) -> ModelManager:
    def open_model(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
        return LLM(ScriptedBackend())

    names = ("a", "b:latest")
    entries = [ModelEntry(name=name, path=Path("/nowhere"), pinned=pinned) for name in names]
    return ModelManager(entries, open_model, idle_s=idle_s)


async def unloads_within(manager: ModelManager, name: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while manager.find(name).is_loaded and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return not manager.find(name).is_loaded


def test_a_tag_called_latest_may_be_left_out_or_added() -> None:
    manager = make_manager()
    assert [manager.find(name).name for name in ("a", "a:latest", "b", "B:LATEST")] == [
        "a",
        "a",
        "b:latest",
        "b:latest",
    ]


def test_a_model_goes_when_its_time_is_over_and_not_before() -> None:
    async def run() -> None:
        manager = make_manager()
        manager.start()
        async with manager.lease("a") as model:
            manager.keep(model, 0.3)
        assert 0 < manager.expires_s(model) - time.monotonic() <= 0.3
        assert not await unloads_within(manager, "a", 0.15)
        assert await unloads_within(manager, "a", 5)
        assert manager.expires_s(model) == math.inf
        await manager.close()

    asyncio.run(run())


def test_a_model_that_is_not_kept_goes_after_its_last_request() -> None:
    async def run() -> None:
        manager = make_manager()
        manager.start()
        async with manager.lease("a") as model:
            manager.keep(model, 0)
            async with manager.lease("a"):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
            assert model.is_loaded
        assert await unloads_within(manager, "a", 5)
        async with manager.lease("a"):
            pass
        assert not await unloads_within(manager, "a", 0.1)
        await manager.close()

    asyncio.run(run())


def test_for_ever_is_longer_than_the_idle_time_and_a_pin_longer_than_any() -> None:
    async def run() -> None:
        manager = make_manager(idle_s=0.1)
        manager.start()
        async with manager.lease("a") as model:
            manager.keep(model, math.inf)
        async with manager.lease("b"):
            pass
        assert await unloads_within(manager, "b", 5) and model.is_loaded
        await manager.close()
        pinned = make_manager(idle_s=0.01, pinned=True)
        pinned.start()
        async with pinned.lease("a") as model:
            pinned.keep(model, 0)
        assert not await unloads_within(pinned, "a", 0.2)
        await pinned.close()

    asyncio.run(run())
