"""Which models are served, which of them are loaded, and who gives way when memory is short.

A request holds a lease on its model from the moment that it waits for the load, so a model that was loaded for
somebody is used before it can be unloaded for somebody else: under any load, everybody has a turn.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from localllm.errors import AllocationFailed, EngineClosed, EngineError, LocalLLMError, NotEnoughMemory
from localllm.llm.model import LLM
from localllm.server.directory import ModelDirectory, MoreEntries
from localllm.server.errors import Overloaded, Refused
from localllm.server.served import ModelEntry, ServedModel

__all__ = ["ModelEntry", "ModelManager", "OpenModel", "ServedModel"]

log = logging.getLogger("localllm.server")

_ROOM_TIMEOUT_S = 120.0
"""A load waits this long for busy models to become idle."""
_RETRY_S = 1.0
"""A load that failed is not tried again before this; until then its error is everybody's."""
_TOO_LARGE_S = 60.0
"""For a model that did not fit although all had given way, nobody gives way again before this."""
_POLL_S = 0.5
"""How often to look for what nobody announces: the end of a worker."""

OpenModel = Callable[[ModelEntry, Callable[[float], None]], LLM]
"""Loads a model, on a thread; reports the loaded share to a function whose error ends the load."""


class ModelManager:
    """Hands out leases on models, loading what is not loaded. Used on the event loop only.

    Args:
        entries: at least one; the first is the default.
        open_model: loads a model; called on a thread, one call at a time.
        max_bytes: memory for all loaded models together; None: what the planner finds free.
        idle_s: an unpinned model that nobody asked for during this time is unloaded; None: never.
        preload: load the default model, and the pinned ones, before anybody asks.
        more: finds what else may be asked for, called on a thread, again and again; names of `entries` go first.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        open_model: OpenModel,
        *,
        max_bytes: int | None = None,
        idle_s: float | None = None,
        preload: bool = False,
        more: MoreEntries | None = None,
    ) -> None:
        self._directory = ModelDirectory(entries, more)
        self._open_model = open_model
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._preload = preload
        self._load_lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None
        self._closing = False
        self.n_loads = 0
        self.n_evictions = 0
        self.n_crashes = 0

    @property
    def models(self) -> list[ServedModel]:
        return self._directory.models

    def find(self, name: str | None) -> ServedModel:
        """Return the model of this name or alias; None or "" is the default.

        Raises:
            ModelNotFound: there is none.
        """
        return self._directory.find(name)

    async def seek(self, name: str | None) -> ServedModel:
        """Return the model of a name, as `find`; one that came to this disk a moment ago included.

        Raises:
            ModelNotFound: there is none.
        """
        return await self._directory.seek(name)

    async def look(self) -> None:
        """See which models came to this disk, and which left."""
        await self._directory.look()

    def start(self) -> None:
        """Begin to load what shall be there from the start, and to unload what is idle."""
        for index, model in enumerate(self.models):
            if self._preload and (index == 0 or model.pinned):
                model.loading = asyncio.create_task(self._load_task(model))
        self._reaper = asyncio.create_task(self._reap())

    @asynccontextmanager
    async def lease(self, name: str | None) -> AsyncIterator[ServedModel]:
        """Keep a model loaded for as long as the block runs, loading it first if need be.

        Raises:
            ModelNotFound: there is no such model.
            LocalLLMError: it cannot be loaded, or there is no room for it.
        """
        model = await self.seek(name)
        while model.gives_way and not self._closing:
            await self._wait_change()
        model.n_leases += 1
        try:
            while not model.is_loaded:
                await self._load(model)
            model.last_used_s = time.monotonic()
            yield model
        finally:
            model.n_leases -= 1
            model.last_used_s = time.monotonic()
            self._notify()

    async def load(self, name: str) -> ServedModel:
        """Load a model now."""
        async with self.lease(name) as model:
            return model

    async def unload(self, name: str, *, force: bool = False) -> ServedModel:
        """Unload a model when its requests have ended; with `force` at once, and they end with errors.

        Raises:
            Refused: it is pinned.
        """
        model = self.find(name)
        if model.pinned and not force:
            raise Refused(409, f"{model.name} is pinned.", code="model_pinned", hint="Unpin it first.")
        with self._giving_way(model):
            model.is_aborted = force and model.loading is not None
            self._notify()
            while model.loading is not None or (model.is_loaded and model.n_leases and not force):
                await self._wait_change()
            await self._unload(model)
        return model

    def pin(self, name: str, *, pinned: bool) -> ServedModel:
        """Say whether a model may be unloaded for others, or for being idle."""
        model = self.find(name)
        model.pinned = pinned
        self._notify()
        return model

    def keep(self, model: ServedModel, keep_s: float) -> None:
        """Say how long a model stays loaded without requests: 0 is not at all, math.inf for ever.

        Until it is unloaded, or somebody says otherwise. It gives way to others as before; a pinned one stays.
        """
        model.keep_s = keep_s
        self._notify()

    def expires_s(self, model: ServedModel) -> float:
        """Return when, by time.monotonic, a model is unloaded if nobody asks for it; math.inf for never."""
        keep_s = self._idle_s if model.keep_s is None else model.keep_s
        return math.inf if keep_s is None or model.pinned else model.last_used_s + keep_s

    async def close(self) -> None:
        """Unload everything, ending the requests and loads that are under way. Closing twice is harmless."""
        self._closing = True
        if self._reaper is not None:
            self._reaper.cancel()
        loading = [model.loading for model in self.models if model.loading is not None]
        for model in self.models:
            model.is_aborted = model.loading is not None
        self._notify()
        await asyncio.gather(*loading, return_exceptions=True)
        await asyncio.gather(*(self._unload(model) for model in self.models))

    # Loading.

    async def _load(self, model: ServedModel) -> None:
        """Load, or wait for the load that is under way. A caller that leaves does not end the load of others."""
        if self._closing:
            raise Overloaded("The server is shutting down.", retry_after_s=10)
        if model.loading is None:
            if model.has_failed and model.error is not None and time.monotonic() - model.failed_s < _RETRY_S:
                raise copy.copy(model.error)
            model.loading = asyncio.create_task(self._load_task(model))
        await asyncio.shield(model.loading)
        if model.error is not None:
            # Each caller adds its own traceback to its own copy.
            raise copy.copy(model.error)

    async def _load_task(self, model: ServedModel) -> None:
        model.error = None
        try:
            async with self._load_lock:
                await self._drop_dead(model)
                await self._open(model)
        except LocalLLMError as error:
            model.error = error.with_traceback(None)
            log.warning("cannot load %s: %s", model.name, error.message)
        except Exception as error:
            model.error = EngineError(f"{model.name} cannot be loaded ({type(error).__name__}).", hint="See the log.")
            log.exception("cannot load %s", model.name)
        finally:
            model.failed_s = time.monotonic()
            model.last_used_s = time.monotonic()
            model.loading = None
            model.is_aborted = False
            model.progress = 0.0
            self._notify()

    async def _open(self, model: ServedModel) -> None:
        """Load a model, unloading others as long as it does not fit."""
        await self._make_room(model)
        while True:
            started = time.monotonic()
            _check_aborted(model)
            try:
                llm = await asyncio.to_thread(self._open_model, model.entry, lambda share: _progress(model, share))
            except (NotEnoughMemory, AllocationFailed):
                if time.monotonic() < model.too_large_until_s or not await self._evict_one(model):
                    model.too_large_until_s = time.monotonic() + _TOO_LARGE_S
                    raise
                continue
            break
        # What it takes is known only now; before the first load there was only the size of its file.
        model.planned_bytes = llm.info.memory_bytes
        try:
            await self._make_room(model)
            _check_aborted(model)
        except BaseException:
            await asyncio.to_thread(llm.close)
            raise
        model.llm = llm
        model.too_large_until_s = 0.0
        model.last_used_s = time.monotonic()
        self.n_loads += 1
        log.info("loaded %s in %.1f s", model.name, time.monotonic() - started)
        for note in llm.info.plan_notes:
            log.info("%s: %s", model.name, note)

    async def _unload(self, model: ServedModel) -> None:
        llm, model.llm, model.keep_s = model.llm, None, None
        if llm is not None:
            await asyncio.to_thread(llm.close)
            log.info("unloaded %s", model.name)

    async def _drop_dead(self, model: ServedModel) -> None:
        """Forget a model whose worker process is gone."""
        if model.llm is not None and not model.llm.is_alive:
            self.n_crashes += 1
            log.warning("the worker of %s is gone", model.name)
            await self._unload(model)

    # Making room.

    async def _make_room(self, model: ServedModel) -> None:
        """Unload others until `model` fits the limit.

        Raises:
            NotEnoughMemory: it cannot fit, whoever gives way.
            Overloaded: those that must give way stay busy too long.
        """
        if self._max_bytes is None:
            return
        until = time.monotonic() + _ROOM_TIMEOUT_S
        while self._bytes_beside(model) + model.memory_bytes > self._max_bytes:
            fits_alone = self._bytes_beside(model, only_pinned=True) + model.memory_bytes <= self._max_bytes
            if not fits_alone or not await self._evict_one(model, until=until):
                raise self._no_room(model)

    def _bytes_beside(self, model: ServedModel, *, only_pinned: bool = False) -> int:
        others = [m for m in self.models if m is not model and m.is_loaded]
        return sum(m.memory_bytes for m in others if m.pinned or not only_pinned)

    def _no_room(self, model: ServedModel) -> NotEnoughMemory:
        needed, limit = model.memory_bytes / 2**30, (self._max_bytes or 0) / 2**30
        pinned = self._bytes_beside(model, only_pinned=True) / 2**30
        beside = f", of which pinned models hold {pinned:.2f} GiB" if pinned else ""
        return NotEnoughMemory(
            f"{model.name} needs {needed:.2f} GiB; the limit for all models is {limit:.2f} GiB{beside}.",
            hint="Raise --max-memory, lower --n-ctx, or unpin a model.",
        )

    async def _evict_one(self, newcomer: ServedModel, until: float | None = None) -> bool:
        """Unload the least recently used model that may go, idle ones first; False if none may.

        Raises:
            Overloaded: those that may go stay busy too long.
        """
        until = time.monotonic() + _ROOM_TIMEOUT_S if until is None else until
        asked: ServedModel | None = None
        while True:
            _check_aborted(newcomer)
            candidates = [m for m in self.models if m is not newcomer and m.llm is not None and not m.pinned]
            if not candidates:
                return False
            free = [m for m in candidates if not (m.n_leases and m.is_loaded)]
            if free:
                victim = min(free, key=lambda m: (m.is_loaded, m.last_used_s))
                self.n_evictions += victim.is_loaded
                with self._giving_way(victim):
                    await self._unload(victim)
                return True
            if asked not in candidates:
                asked = min(candidates, key=lambda m: m.last_used_s)
            with self._giving_way(asked):
                if not await self._wait_change(until):
                    raise Overloaded(f"{asked.name} is busy, and its memory is needed.", retry_after_s=5)

    async def _reap(self) -> None:
        """Unload models whose time is over."""
        while True:
            now = time.monotonic()
            idle = [m for m in self.models if m.llm is not None and not (m.n_leases or m.loading or m.gives_way)]
            for model in [m for m in idle if self.expires_s(m) <= now]:
                try:
                    await self.unload(model.name)
                except Exception:
                    log.exception("cannot unload %s", model.name)
            await self._wait_change()

    # Waiting.

    @contextmanager
    def _giving_way(self, model: ServedModel) -> Iterator[None]:
        try:
            with model.giving_way():
                yield
        finally:
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_change(self, until: float | None = None) -> bool:
        """Wait for a change, or a moment; False when it is later than `until`."""
        changed = self._changed
        try:
            async with asyncio.timeout(_POLL_S):
                await changed.wait()
        except TimeoutError:
            pass
        return until is None or time.monotonic() < until


def _progress(model: ServedModel, share: float) -> None:
    """Note how far a load is; on the backend's thread."""
    _check_aborted(model)
    model.progress = share


def _check_aborted(model: ServedModel) -> None:
    if model.is_aborted:
        raise EngineClosed(f"{model.name} was unloaded before it was loaded.", hint="Try again.")
