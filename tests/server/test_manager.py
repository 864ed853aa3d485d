"""Who is loaded, for whom, and what becomes of loads that fail: with models that load as they are told to."""

from __future__ import annotations

import asyncio

import pytest

from localllm.errors import EngineError, LocalLLMError, ModelLoadFailed, ModelNotFound
from localllm.server import manager as manager_module
from localllm.server.errors import Overloaded
from localllm.server.manager import ModelManager
from tests.server.fakes import Loader, entries, make_manager
from tests.server.managing import run, until, use

pytestmark = pytest.mark.usefixtures("impatient_manager")


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


def test_preload_loads_the_first_and_the_pinned_before_anybody_asks() -> None:
    loader = Loader()
    manager = make_manager(loader, "a", "b", "c", pinned=("c",), preload=True)

    async def work() -> None:
        manager.start()
        await until(lambda: len(loader.loads) == 2)
        await manager.close()

    run(work)
    assert sorted(loader.loads) == ["a", "c"]


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
