"""The models that are loaded, and what becomes of them: loading, ready, crashed.

Each is in a worker process of its own (`localllm.runtime`), so that nothing it does reaches the interface's thread.
This module knows no widgets: it tells a listener that something changed, and the listener looks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from localllm.errors import LocalLLMError
from localllm.hub.refs import remote_ref
from tui.attached import is_attached

if TYPE_CHECKING:
    from localllm.config import Settings
    from localllm.llm import LLM

Phase = Literal["loading", "ready", "crashed", "failed"]
"""crashed: it was ready, and its process ended. failed: it could not be loaded."""


OpenLLM = Callable[..., "LLM"]
"""Loads a model: the ref, `on_progress` and the options of `localllm.load`."""

N_SLOTS = 2
"""A conversation beside another, or a title beside an answer; each more takes a share of the context."""

_WATCH_S = 0.5
_ROOMY = 2
"""Another model stays in memory where so many times what the new one needs is free."""


@dataclass(frozen=True)
class EngineState:
    """One engine at one moment."""

    ref: str
    """What was asked for: a name, a path, or "@remote"."""
    phase: Phase
    share: float = 0.0
    """How much of it is loaded, 0 to 1."""
    llm: LLM | None = None
    """Where it is ready."""
    error: LocalLLMError | None = None
    """Why it is not, where it crashed or failed."""


class Engines:
    """Opens and closes engines. All methods are called on the interface's thread.

    Args:
        changed: called with the ref of an engine whose state changed, on the interface's thread.
        open_llm: loads a model, on another thread; (ref, options of `localllm.load`) -> LLM. Tests script one.
        settings: how models are loaded where a call does not say; None: as `localllm.load` has it.
        has_room: tells, on another thread, whether a model fits beside those that are loaded. Tests script one.
    """

    def __init__(
        self,
        changed: Callable[[str], None],
        open_llm: OpenLLM | None = None,
        settings: Settings | None = None,
        has_room: Callable[[str], bool] | None = None,
    ) -> None:
        self._changed = changed
        self._open_llm: OpenLLM = open_llm or _load
        self.settings = settings
        """For what is loaded from now on."""
        self._has_room = has_room or _has_room
        self._states: dict[str, EngineState] = {}
        self._opening: dict[str, asyncio.Task[LLM]] = {}
        self._n_users: Counter[str] = Counter()
        self._one_at_a_time = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    @property
    def states(self) -> tuple[EngineState, ...]:
        """All engines, the one that was used last at the end."""
        return tuple(self._states.values())

    def state(self, ref: str) -> EngineState | None:
        """Return how the engine of `ref` is; None if nobody asked for it."""
        state = self._states.get(ref)
        if state is not None and state.phase == "ready" and state.llm is not None and not state.llm.is_alive:
            from localllm.errors import WorkerCrashed

            error = WorkerCrashed("The engine's process ended.", hint="Load the model again.")
            gone, state = state.llm, replace(state, phase="crashed", llm=None, error=error)
            self._states[ref] = state
            _spawn(asyncio.to_thread(gone.close))
            self._changed(ref)
        return state

    async def open(self, ref: str, *, beside: bool = False, **options: Any) -> LLM:
        """Return the engine of `ref`, loaded if it is not; who asks while it loads waits for the same one.

        Cancelling the wait leaves the loading going on.

        Args:
            ref: a name, a path, or "@remote".
            beside: keep what is loaded, whatever memory is left; else engines that nobody uses make room.
            options: of `localllm.load`, before those of the settings.

        Raises:
            LocalLLMError: as `localllm.load`.
        """
        state = self.state(ref)
        if state is not None and state.llm is not None:
            self._touch(ref)
            return state.llm
        task = self._opening.get(ref)
        if task is None:
            task = self._opening[ref] = asyncio.create_task(self._open(ref, beside, options))
            # Whoever waits for it may have gone when it fails.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    @contextmanager
    def using(self, ref: str) -> Iterator[None]:
        """Keep an engine from making room for another while an answer streams."""
        self._n_users[ref] += 1
        self._touch(ref)
        try:
            yield
        finally:
            self._n_users[ref] -= 1

    async def close(self, ref: str) -> None:
        """Give the memory of an engine back."""
        task = self._opening.pop(ref, None)
        if task is not None:
            await asyncio.wait([task])
        state = self._states.pop(ref, None)
        if state is not None and state.llm is not None:
            await asyncio.to_thread(state.llm.close)
        self._changed(ref)

    async def close_all(self) -> None:
        """Give all memory back."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        await asyncio.gather(*(self.close(ref) for ref in {*self._states, *self._opening}))

    async def _open(self, ref: str, beside: bool, options: dict[str, Any]) -> LLM:
        loop = asyncio.get_running_loop()
        self._set(EngineState(ref, "loading"))

        def loaded(share: float) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._progress, ref, share)

        try:
            async with self._one_at_a_time:
                if not beside and is_local(ref):
                    await self._make_room(ref)
                given = {**loading_options(self.settings, ref), **options}
                llm = await asyncio.to_thread(self._open_llm, ref, on_progress=loaded, **given)
        except LocalLLMError as error:
            self._set(EngineState(ref, "failed", error=error))
            raise
        except Exception as error:
            from localllm.errors import EngineError

            failure = EngineError(f"{type(error).__name__}: {error}", hint="This is a bug; please report it.")
            self._set(EngineState(ref, "failed", error=failure))
            raise failure from error
        finally:
            self._opening.pop(ref, None)
        self._set(EngineState(ref, "ready", 1.0, llm))
        self._watch = self._watch or asyncio.create_task(self._look())
        return llm

    async def _make_room(self, ref: str) -> None:
        """Close engines on this machine that nobody uses, the one used longest ago first, until the new one fits."""
        for state in self.states:
            is_idle = state.phase == "ready" and is_local(state.ref) and not self._n_users[state.ref]
            if is_idle and state.ref != ref:
                if await asyncio.to_thread(self._has_room, ref):
                    return
                await self.close(state.ref)

    async def _look(self) -> None:
        """Notice processes that end while nobody asks them anything."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for ref in [*self._states]:
                self.state(ref)

    def _progress(self, ref: str, share: float) -> None:
        state = self._states.get(ref)
        if state is not None and state.phase == "loading":
            self._set(replace(state, share=share))

    def _touch(self, ref: str) -> None:
        state = self._states.pop(ref, None)
        if state is not None:
            self._states[ref] = state

    def _set(self, state: EngineState) -> None:
        self._states.pop(state.ref, None)
        self._states[state.ref] = state
        self._changed(state.ref)


def is_local(ref: str) -> bool:
    """Tell whether a model is computed by this program, and takes this machine's memory."""
    return not is_attached(ref) and remote_ref(ref) is None


def loading_options(settings: Settings | None, ref: str) -> Mapping[str, Any]:
    """Return the options of `localllm.load` that the settings ask for; a model that is elsewhere takes none."""
    if settings is None or not is_local(ref):
        return {}
    kv_type_k, kv_type_v = settings.kv_types
    return {
        "n_ctx": settings.n_ctx,
        "gpu_layers": settings.gpu_layers,
        "n_threads": settings.threads,
        "kv_type": kv_type_k,
        "kv_type_v": kv_type_v,
        "kv_store_bytes": settings.kv_store,
        "rpc": settings.rpc,
        "n_slots": N_SLOTS,
        "spec": settings.spec,
        "shares_texts": settings.spec_lookup == "shared",
        "draft_model": settings.draft_model,
    }


_background: set[asyncio.Future[Any]] = set()


def _spawn(work: Any) -> None:
    task = asyncio.ensure_future(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


def _has_room(ref: str) -> bool:
    from localllm.hardware.memory import available_ram_bytes
    from localllm.store import resolve

    try:
        n_bytes = resolve(ref).stat().st_size
    except (LocalLLMError, OSError):
        return True
    return available_ram_bytes() >= _ROOMY * (n_bytes + (1 << 30))


def _load(ref: str, **options: Any) -> LLM:
    if is_attached(ref):
        from tui.attached import open_attached

        return open_attached(ref)
    from localllm.llm import load

    return load(ref, **options)
