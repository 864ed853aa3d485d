"""Who gives way to whom, and who waits: with models that load as they are told to."""

from __future__ import annotations

import asyncio
import time

import pytest

from localllm.errors import NotEnoughMemory
from localllm.server import manager as manager_module
from localllm.server.errors import Overloaded
from tests.server.fakes import Loader, make_manager
from tests.server.managing import run, until, use

pytestmark = pytest.mark.usefixtures("impatient_manager")


def test_least_recently_used_model_gives_way() -> None:
    loader = Loader({"a": 40, "b": 40, "c": 40})
    manager = make_manager(loader, "a", "b", "c", max_bytes=100)

    async def work() -> None:
        for name in ("a", "b", "a", "c"):
            await use(manager, name)
            await asyncio.sleep(0.002)

    run(work)
    assert loader.is_open("a") and loader.is_open("c") and not loader.is_open("b")
    assert manager.n_evictions == 1


def test_pinned_model_never_gives_way() -> None:
    loader = Loader({"a": 60, "b": 60})
    manager = make_manager(loader, "a", "b", pinned=("a",), max_bytes=100)

    async def work() -> None:
        await use(manager, "a")
        with pytest.raises(NotEnoughMemory, match="pinned"):
            await use(manager, "b")
        manager.pin("a", pinned=False)
        await use(manager, "b")

    run(work)
    assert loader.is_open("b") and not loader.is_open("a")


def test_model_that_can_never_fit_makes_nobody_give_way() -> None:
    loader = Loader({"a": 40, "b": 400})
    manager = make_manager(loader, "a", "b", max_bytes=100)

    async def work() -> None:
        for _ in range(3):
            await use(manager, "a")
            with pytest.raises(NotEnoughMemory):
                await use(manager, "b")

    run(work)
    # Its size is known only when it was loaded once; from then on nobody gives way for it.
    assert loader.loads.count("a") == 1
    assert loader.loads.count("b") == 1
    assert not loader.is_open("b")


def test_size_known_only_after_loading_still_keeps_the_limit() -> None:
    loader = Loader({"a": 60, "b": 60})
    manager = make_manager(loader, "a", "b", max_bytes=100)

    async def work() -> None:
        await use(manager, "a")
        await use(manager, "b")
        assert sum(m.memory_bytes for m in manager.models if m.is_loaded) <= 100

    run(work)
    assert loader.is_open("b") and not loader.is_open("a")


def test_planner_that_finds_no_room_makes_idle_models_give_way() -> None:
    loader = Loader(failures={"b": [NotEnoughMemory("Needs 9 GiB, 1 GiB free.")]})
    manager = make_manager(loader, "a", "b")

    async def work() -> None:
        await use(manager, "a")
        await use(manager, "b")

    run(work)
    assert loader.is_open("b") and not loader.is_open("a")


def test_model_that_does_not_fit_even_alone_is_not_given_way_to_again() -> None:
    loader = Loader(failures={"b": [NotEnoughMemory("Needs 99 GiB.")] * 9})
    manager = make_manager(loader, "a", "b")

    async def work() -> None:
        for _ in range(3):
            await use(manager, "a")
            with pytest.raises(NotEnoughMemory):
                await use(manager, "b")

    run(work)
    assert loader.loads.count("a") == 2


def test_busy_model_is_waited_for() -> None:
    loader = Loader({"a": 60, "b": 60})
    manager = make_manager(loader, "a", "b", max_bytes=100)
    order: list[str] = []

    async def work() -> None:
        async def long_request() -> None:
            await use(manager, "a", 0.3)
            order.append("a ended")

        first = asyncio.create_task(long_request())
        await until(lambda: loader.is_open("a"))
        await use(manager, "b")
        order.append("b ran")
        await first

    run(work)
    assert order == ["a ended", "b ran"]


def test_idle_model_gives_way_although_a_busy_one_was_used_longer_ago() -> None:
    loader = Loader({"a": 40, "b": 40, "c": 40})
    manager = make_manager(loader, "a", "b", "c", max_bytes=100)

    async def work() -> None:
        busy = asyncio.create_task(use(manager, "a", 0.5))
        await until(lambda: loader.is_open("a"))
        await use(manager, "b")
        await use(manager, "c")
        assert loader.is_open("a") and not loader.is_open("b")
        await busy

    run(work)


def test_model_that_becomes_idle_first_is_the_one_that_goes() -> None:
    loader = Loader({"a": 40, "b": 40, "c": 40})
    manager = make_manager(loader, "a", "b", "c", max_bytes=100)

    async def work() -> None:
        long = asyncio.create_task(use(manager, "a", 1.0))
        await until(lambda: loader.is_open("a"))
        short = asyncio.create_task(use(manager, "b", 0.2))
        await until(lambda: loader.is_open("b"))
        started = time.monotonic()
        await use(manager, "c")
        assert time.monotonic() - started < 0.8
        assert loader.is_open("a") and not loader.is_open("b")
        await asyncio.gather(long, short)

    run(work)


def test_models_that_stay_busy_too_long_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "_ROOM_TIMEOUT_S", 0.2)
    manager = make_manager(Loader({"a": 60, "b": 60}), "a", "b", max_bytes=100)

    async def work() -> None:
        busy = asyncio.create_task(use(manager, "a", 2.0))
        await until(lambda: manager.find("a").is_loaded)
        with pytest.raises(Overloaded) as caught:
            await use(manager, "b")
        assert caught.value.retry_after_s > 0
        busy.cancel()

    run(work)


def test_two_models_that_do_not_fit_together_take_turns() -> None:
    """Neither is unloaded between being loaded for somebody and being used by them."""
    loader = Loader({"a": 60, "b": 60}, load_s=0.005)
    manager = make_manager(loader, "a", "b", max_bytes=100)
    served = {"a": 0, "b": 0}

    async def work() -> None:
        async def client(name: str) -> None:
            for _ in range(10):
                await use(manager, name, 0.001)
                served[name] += 1

        await asyncio.gather(*(client(name) for name in ("a", "b") for _ in range(8)))

    run(work)
    assert served == {"a": 80, "b": 80}
