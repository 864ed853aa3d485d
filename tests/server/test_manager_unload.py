"""Who is unloaded, when, and what becomes of those who ask meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from localllm.errors import LocalLLMError
from localllm.server.errors import Refused
from tests.server.fakes import Loader, make_manager
from tests.server.managing import run, until, use

pytestmark = pytest.mark.usefixtures("impatient_manager")


def test_idle_model_is_unloaded_after_a_while() -> None:
    loader = Loader()
    manager = make_manager(loader, "a", "b", pinned=("b",), idle_s=0.2)

    async def work() -> None:
        manager.start()
        await use(manager, "b")
        await use(manager, "a", 0.5)
        assert loader.is_open("a")
        await until(lambda: not loader.is_open("a"))
        assert loader.is_open("b")
        await use(manager, "a")
        await manager.close()

    run(work)
    assert loader.loads == ["b", "a", "a"]


def test_idle_time_begins_when_the_load_has_ended() -> None:
    loader = Loader(load_s=0.4)
    manager = make_manager(loader, idle_s=0.3, preload=True)

    async def work() -> None:
        manager.start()
        await until(lambda: manager.find("a").is_loaded)
        await asyncio.sleep(0.1)
        assert manager.find("a").is_loaded
        await manager.close()

    run(work)


def test_unload_waits_for_requests_and_new_ones_wait_for_it() -> None:
    loader = Loader()
    manager = make_manager(loader)
    order: list[str] = []

    async def work() -> None:
        async def request(label: str, seconds: float) -> None:
            await use(manager, "a", seconds)
            order.append(label)

        running = asyncio.create_task(request("first", 0.2))
        await until(lambda: loader.is_open("a"))
        unloading = asyncio.create_task(manager.unload("a"))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(request("second", 0.0))
        assert not (await unloading).is_loaded
        order.append("unloaded")
        await asyncio.gather(running, late)

    run(work)
    assert order == ["first", "unloaded", "second"]
    assert loader.loads == ["a", "a"]


def test_forced_unload_does_not_wait() -> None:
    loader = Loader()
    manager = make_manager(loader)

    async def work() -> None:
        running = asyncio.create_task(use(manager, "a", 5.0))
        await until(lambda: manager.find("a").is_loaded)
        await asyncio.sleep(0.01)
        await asyncio.wait_for(manager.unload("a", force=True), 1.0)
        assert not loader.is_open("a")
        running.cancel()

    run(work)


def test_pinned_model_is_unloaded_only_by_force() -> None:
    loader = Loader()
    manager = make_manager(loader, pinned=("a",))

    async def work() -> None:
        await use(manager)
        with pytest.raises(Refused):
            await manager.unload("a")
        await manager.unload("a", force=True)

    run(work)
    assert not loader.is_open("a")


def test_two_unloads_at_once_leave_the_model_usable() -> None:
    loader = Loader()
    manager = make_manager(loader)

    async def work() -> None:
        running = asyncio.create_task(use(manager, "a", 0.1))
        await until(lambda: loader.is_open("a"))
        await asyncio.gather(manager.unload("a"), manager.unload("a"), manager.unload("a", force=True))
        await running
        assert not manager.find("a").gives_way
        assert await use(manager) == "a"

    run(work)


def test_forced_unload_ends_a_load() -> None:
    loader = Loader(load_s=10.0)
    manager = make_manager(loader)

    async def work() -> None:
        waiting = asyncio.create_task(use(manager))
        await until(loader.is_loading.is_set)
        await manager.unload("a", force=True)
        with pytest.raises(LocalLLMError, match="unloaded"):
            await waiting
        assert manager.find("a").state == "unloaded"
        loader.load_s = 0.0
        assert await use(manager) == "a"

    run(work, 5.0)


def test_unload_of_a_loading_model_waits_for_the_load_and_its_requests() -> None:
    loader = Loader(load_s=0.2)
    manager = make_manager(loader)

    async def work() -> None:
        waiting = asyncio.create_task(use(manager))
        await until(loader.is_loading.is_set)
        await manager.unload("a")
        assert await waiting == "a"

    run(work)
    assert not loader.is_open("a")
