"""Who is loaded, who gives way, and who waits: with models that load as they are told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from localllm.errors import EngineError, LocalLLMError, ModelLoadFailed, ModelNotFound, NotEnoughMemory
from localllm.server import manager as manager_module
from localllm.server.errors import Overloaded, Refused
from localllm.server.manager import ModelManager
from tests.server.fakes import Loader, entries, make_manager


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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(manager_module, "_POLL_S", 0.05)


def test_model_is_loaded_once_for_all_who_ask_at_the_same_time() -> None:
    loader = Loader(load_s=0.1)
    manager = make_manager(loader)

    async def work() -> None:
        assert await asyncio.gather(*(use(manager) for _ in range(50))) == ["a"] * 50

    run(work)
    assert loader.loads == ["a"]


def test_names_and_aliases_find_a_model_whatever_their_case() -> None:
    manager = ModelManager(entries("Alpha", "beta"), Loader())
    assert manager.find("ALPHA").name == manager.find(None).name == manager.find("").name == "Alpha"
    with pytest.raises(ModelNotFound, match="gamma"):
        manager.find("gamma")


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


def test_load_that_fails_is_tried_again_for_the_next_request() -> None:
    loader = Loader(failures={"a": [ModelLoadFailed("Damaged.")]})
    manager = make_manager(loader)

    async def work() -> None:
        results = await asyncio.gather(*(use(manager) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, ModelLoadFailed) for result in results)
        assert len({id(result) for result in results}) == 5
        assert manager.find("a").state == "failed"
        assert await use(manager) == "a"
        assert manager.find("a").state == "loaded"
        assert manager.find("a").error is None

    run(work)
    assert loader.loads == ["a", "a"]


def test_broken_model_is_not_loaded_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "_RETRY_S", 5.0)
    loader = Loader(failures={"a": [ModelLoadFailed("Damaged.")] * 9})
    manager = make_manager(loader)

    async def work() -> None:
        for _ in range(5):
            with pytest.raises(ModelLoadFailed, match="Damaged"):
                await use(manager)

    run(work)
    assert loader.loads == ["a"]


def test_error_that_nobody_foresaw_is_ours_and_does_not_stop_the_manager() -> None:
    loader = Loader(failures={"a": [OSError(24, "Too many open files")]})
    manager = make_manager(loader)

    async def work() -> None:
        with pytest.raises(EngineError, match="OSError"):
            await use(manager)
        assert await use(manager) == "a"

    run(work)


def test_crashed_model_is_loaded_again() -> None:
    loader = Loader()
    manager = make_manager(loader)

    async def work() -> None:
        await use(manager)
        loader.backends["a"].crashed = True
        assert manager.find("a").state == "unloaded"
        await asyncio.gather(*(use(manager) for _ in range(5)))

    run(work)
    assert loader.loads == ["a", "a"]
    assert manager.n_crashes == 1


def test_crashed_model_that_somebody_still_leases_does_not_hold_up_others() -> None:
    loader = Loader({"a": 60, "b": 60})
    manager = make_manager(loader, "a", "b", max_bytes=100)

    async def work() -> None:
        busy = asyncio.create_task(use(manager, "a", 5.0))
        await until(lambda: loader.is_open("a"))
        waiting = asyncio.create_task(use(manager, "b"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        loader.backends["a"].crashed = True
        assert await asyncio.wait_for(waiting, 1.0) == "b"
        busy.cancel()

    run(work)


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


def test_preload_loads_the_first_and_the_pinned_before_anybody_asks() -> None:
    loader = Loader()
    manager = make_manager(loader, "a", "b", "c", pinned=("c",), preload=True)

    async def work() -> None:
        manager.start()
        await until(lambda: len(loader.loads) == 2)
        await manager.close()

    run(work)
    assert sorted(loader.loads) == ["a", "c"]


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


def test_close_ends_a_load_and_leaves_nothing_open() -> None:
    loader = Loader(load_s=10.0)
    manager = make_manager(loader, "a", "b")

    async def work() -> None:
        waiting = [asyncio.create_task(use(manager, name)) for name in ("a", "b")]
        await until(loader.is_loading.is_set)
        await manager.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, LocalLLMError) for result in results)
        with pytest.raises(Overloaded, match="shutting down"):
            await use(manager)
        await manager.close()

    run(work, 5.0)
    assert not loader.is_open("a") and not loader.is_open("b")


def test_client_that_leaves_does_not_end_the_load_of_others() -> None:
    loader = Loader(load_s=0.2)
    manager = make_manager(loader)

    async def work() -> None:
        leaves, stays = (asyncio.create_task(use(manager)) for _ in range(2))
        await until(loader.is_loading.is_set)
        leaves.cancel()
        assert await stays == "a"
        assert manager.find("a").n_leases == 0

    run(work)
    assert loader.loads == ["a"]


def test_load_that_everybody_left_still_leaves_the_manager_in_order() -> None:
    loader = Loader(load_s=0.1)
    manager = make_manager(loader)

    async def work() -> None:
        task = asyncio.create_task(use(manager))
        await until(loader.is_loading.is_set)
        task.cancel()
        await until(lambda: manager.find("a").is_loaded)
        assert manager.find("a").n_leases == 0
        await manager.close()

    run(work)
    assert not loader.is_open("a")


def test_progress_of_a_load_can_be_seen() -> None:
    loader = Loader(load_s=0.2)
    manager = make_manager(loader)

    async def work() -> None:
        task = asyncio.create_task(use(manager))
        await until(lambda: manager.find("a").progress == 0.5)
        assert manager.find("a").state == "loading"
        await task
        assert manager.find("a").progress == 0.0

    run(work)


@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_requests_unloads_and_crashes_ends_in_order(seed: int) -> None:
    import random

    rng = random.Random(seed)
    names = ("a", "b", "c")
    loader = Loader(dict.fromkeys(names, 40), load_s=0.002)
    manager = make_manager(loader, *names, max_bytes=100)

    async def request() -> None:
        try:
            async with asyncio.timeout(rng.choice((0.002, 0.01, 5))):
                await use(manager, rng.choice(names), rng.random() * 0.01)
        except (TimeoutError, AssertionError):
            pass

    async def work() -> None:
        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(request()))
            chance = rng.random()
            if chance < 0.05:
                tasks.append(asyncio.create_task(manager.unload(rng.choice(names), force=chance < 0.02)))
            elif chance < 0.08 and loader.backends:
                rng.choice(list(loader.backends.values())).crashed = True
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [r for r in results if isinstance(r, Exception) and not isinstance(r, LocalLLMError)] == []
        await until(lambda: not any(m.loading for m in manager.models))
        assert all(m.n_leases == 0 and not m.gives_way for m in manager.models)
        assert sum(m.memory_bytes for m in manager.models if m.is_loaded) <= 100
        for name in names:
            assert await use(manager, name) == name
        await manager.close()

    run(work, 30.0)
    assert not any(loader.is_open(name) for name in names)
