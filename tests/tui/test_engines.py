"""Engines: one at a time, unless there is room; crashes; servers that have the model already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from localllm.config import load_settings
from localllm.errors import EngineError, ModelNotFound, ServerError, WorkerCrashed
from localllm.llm import LLM
from tests.tui.driving import ScriptedModels
from tui.attached import attached_models, is_attached
from tui.engines import N_SLOTS, Engines, is_local, loading_options


class Told:
    """What the listener was told."""

    def __init__(self) -> None:
        self.refs: list[str] = []

    def __call__(self, ref: str) -> None:
        self.refs.append(ref)


async def eventually(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def engines(told: Told, models: ScriptedModels) -> AsyncIterator[Engines]:
    engines = Engines(told, models, has_room=lambda ref: False)
    yield engines
    await engines.close_all()


async def test_whoever_asks_while_it_loads_gets_the_same_one(engines: Engines, models: ScriptedModels) -> None:
    first, second = await asyncio.gather(engines.open("a"), engines.open("a"))
    assert first is second and models.loads == ["a"]
    assert await engines.open("a") is first and models.loads == ["a"]


async def test_the_share_that_is_loaded_is_told(told: Told) -> None:
    may_end, shares = threading.Event(), []

    def slow(ref: str, *, on_progress: Callable[[float], None], **options: Any) -> LLM:
        on_progress(0.5)
        assert may_end.wait(5)
        return ScriptedModels()(ref, on_progress=on_progress)

    engines = Engines(lambda ref: shares.append(engines.state(ref)), slow)
    opening = asyncio.create_task(engines.open("a"))
    await eventually(lambda: any(state and state.share == 0.5 and state.phase == "loading" for state in shares))
    may_end.set()
    await opening
    state = engines.state("a")
    assert state is not None and state.phase == "ready" and state.share == 1.0
    await engines.close_all()
    assert engines.states == ()


async def test_an_idle_engine_makes_room_for_another(engines: Engines, models: ScriptedModels) -> None:
    await engines.open("a")
    await engines.open("b")
    assert models.backends["a"].closed
    assert [state.ref for state in engines.states] == ["b"]


async def test_the_one_that_was_used_longest_ago_goes_first(told: Told, models: ScriptedModels) -> None:
    rooms = iter([False, True])
    engines = Engines(told, models, has_room=lambda ref: next(rooms))
    await engines.open("a")
    await engines.open("b", beside=True)
    await engines.open("a")
    await engines.open("c")
    assert [state.ref for state in engines.states] == ["a", "c"]
    await engines.close_all()


async def test_an_engine_that_streams_stays(engines: Engines, models: ScriptedModels) -> None:
    await engines.open("a")
    with engines.using("a"):
        await engines.open("b")
        assert not models.backends["a"].closed
    await engines.open("c")
    assert models.backends["a"].closed and models.backends["b"].closed


async def test_two_side_by_side_where_that_is_asked_for(engines: Engines, models: ScriptedModels) -> None:
    await engines.open("a")
    await engines.open("b", beside=True)
    assert not models.backends["a"].closed


async def test_a_model_elsewhere_takes_no_room(engines: Engines, models: ScriptedModels) -> None:
    await engines.open("a")
    await engines.open("@lab")
    await engines.open("@127.0.0.1:8080/b")
    assert not models.backends["a"].closed


async def test_a_failure_is_a_state_and_the_next_try_may_succeed(engines: Engines, models: ScriptedModels) -> None:
    models.errors["a"] = ModelNotFound("No model is called 'a'.", hint="Fetch it.")
    with pytest.raises(ModelNotFound):
        await engines.open("a")
    state = engines.state("a")
    assert state is not None and state.phase == "failed" and isinstance(state.error, ModelNotFound)
    del models.errors["a"]
    assert (await engines.open("a")).is_alive


async def test_an_error_nobody_foresaw_is_one_of_ours(engines: Engines, models: ScriptedModels) -> None:
    models.errors["a"] = ZeroDivisionError("by zero")
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        await engines.open("a")


async def test_a_crash_is_noticed_while_nobody_asks(engines: Engines, models: ScriptedModels, told: Told) -> None:
    await engines.open("a")
    n_told = len(told.refs)
    models.backends["a"].closed = True
    await eventually(lambda: len(told.refs) > n_told)
    state = engines.state("a")
    assert state is not None and state.phase == "crashed" and isinstance(state.error, WorkerCrashed)
    assert (await engines.open("a")).is_alive and models.loads == ["a", "a"]


async def test_leaving_the_wait_leaves_the_loading(models: ScriptedModels, told: Told) -> None:
    may_end = threading.Event()

    def slow(ref: str, *, on_progress: Callable[[float], None], **options: Any) -> LLM:
        assert may_end.wait(5)
        return models(ref, on_progress=on_progress)

    engines = Engines(told, slow)
    waiting = asyncio.create_task(engines.open("a"))
    await eventually(lambda: engines.states)
    waiting.cancel()
    may_end.set()
    assert (await engines.open("a")).is_alive and models.loads == ["a"]
    await engines.close_all()


def test_loading_is_as_the_settings_have_it() -> None:
    settings = load_settings({"n_ctx": 2048, "kv_type": "q8_0", "spec": "off"})
    options = loading_options(settings, "smollm2")
    assert options["n_ctx"] == 2048 and options["kv_type"] == options["kv_type_v"] == "q8_0"
    assert options["n_slots"] == N_SLOTS >= 2 and options["spec"] == "off"
    assert loading_options(settings, "@lab") == {}


@pytest.mark.parametrize(
    ("ref", "attached", "local"),
    [
        ("smollm2", False, True),
        ("@lab/model", False, False),
        ("@127.0.0.1:8080/a/b", True, False),
        ("/a:b", False, True),
    ],
)
def test_where_a_model_is_computed(ref: str, attached: bool, local: bool) -> None:
    assert is_attached(ref) == attached and is_local(ref) == local


def test_no_server_no_models() -> None:
    assert attached_models("127.0.0.1:1") == []


async def test_a_server_that_is_gone_is_an_error(told: Told) -> None:
    engines = Engines(told)
    with pytest.raises(ServerError):
        await engines.open("@127.0.0.1:1/smollm2")
