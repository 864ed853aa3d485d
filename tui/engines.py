"""The models that are loaded, and what becomes of them: loading, ready, crashed.

Each is in a worker process of its own (`localllm.runtime`), so that nothing it does reaches the interface's thread.
This module knows no widgets: it tells a listener that something changed, and the listener looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from localllm.errors import LocalLLMError

if TYPE_CHECKING:
    from localllm.llm import LLM

Phase = Literal["loading", "ready", "crashed", "failed"]
"""crashed: it was ready, and its process ended. failed: it could not be loaded."""


OpenLLM = Callable[..., "LLM"]
"""Loads a model: the ref, `on_progress` and the options of `localllm.load`."""


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
    """

    def __init__(self, changed: Callable[[str], None], open_llm: OpenLLM | None = None) -> None:
        self._changed = changed
        self._open_llm: OpenLLM = open_llm or _load
        self._states: dict[str, EngineState] = {}
        self._opening: dict[str, asyncio.Task[LLM]] = {}

    @property
    def states(self) -> tuple[EngineState, ...]:
        """All engines, the one that was asked for last at the end."""
        return tuple(self._states.values())

    def state(self, ref: str) -> EngineState | None:
        """Return how the engine of `ref` is; None if nobody asked for it."""
        state = self._states.get(ref)
        if state is not None and state.phase == "ready" and state.llm is not None and not state.llm.is_alive:
            from localllm.errors import WorkerCrashed

            error = WorkerCrashed("The engine's process ended.", hint="Load the model again.")
            state = self._states[ref] = replace(state, phase="crashed", llm=None, error=error)
        return state

    async def open(self, ref: str, **options: Any) -> LLM:
        """Return the engine of `ref`, loaded if it is not; who asks while it loads waits for the same one.

        Cancelling the wait leaves the loading going on.

        Raises:
            LocalLLMError: as `localllm.load`.
        """
        state = self.state(ref)
        if state is not None and state.llm is not None:
            return state.llm
        task = self._opening.get(ref)
        if task is None:
            task = self._opening[ref] = asyncio.create_task(self._open(ref, options))
        return await asyncio.shield(task)

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
        await asyncio.gather(*(self.close(ref) for ref in {*self._states, *self._opening}))

    async def _open(self, ref: str, options: dict[str, Any]) -> LLM:
        loop = asyncio.get_running_loop()
        self._set(EngineState(ref, "loading"))

        def loaded(share: float) -> None:
            loop.call_soon_threadsafe(self._progress, ref, share)

        try:
            llm = await asyncio.to_thread(self._open_llm, ref, on_progress=loaded, **options)
        except LocalLLMError as error:
            self._set(EngineState(ref, "failed", error=error))
            raise
        finally:
            self._opening.pop(ref, None)
        self._set(EngineState(ref, "ready", 1.0, llm))
        return llm

    def _progress(self, ref: str, share: float) -> None:
        state = self._states.get(ref)
        if state is not None and state.phase == "loading":
            self._set(replace(state, share=share))

    def _set(self, state: EngineState) -> None:
        self._states.pop(state.ref, None)
        self._states[state.ref] = state
        self._changed(state.ref)


def _load(ref: str, **options: Any) -> LLM:
    from localllm.llm import load

    return load(ref, **options)
