"""Which models are served, which of them are loaded, and who gives way when memory is short."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from localllm.errors import LocalLLMError, ModelNotFound, NotEnoughMemory
from localllm.hardware.types import LoadOptions
from localllm.llm.model import LLM
from localllm.server.errors import Overloaded, Refused

log = logging.getLogger("localllm.server")

State = Literal["unloaded", "loading", "loaded", "failed"]

_ROOM_TIMEOUT_S = 120.0
"""A load waits this long for busy models to become idle."""
_REAP_S = 3600.0
_LATEST = ":latest"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model that may be asked for."""

    name: str
    path: Path
    aliases: tuple[str, ...] = ()
    options: LoadOptions = field(default_factory=LoadOptions)
    pinned: bool = False

    @property
    def file_bytes(self) -> int:
        """Size of the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


class ServedModel:
    """A model and its state. The manager changes it; everybody else reads."""

    def __init__(self, entry: ModelEntry) -> None:
        self.entry = entry
        self.name = entry.name
        self.pinned = entry.pinned
        self.llm: LLM | None = None
        self.loading: asyncio.Task[None] | None = None
        self.error: LocalLLMError | None = None
        self.n_leases = 0
        self.last_used_s = time.monotonic()
        self.created_s = time.time()
        self.keep_s: float | None = None
        """How long it stays loaded without requests, where a client has said so; None: as long as any."""
        self.gives_way = False
        """Somebody waits for its memory: no new leases until it is unloaded."""
        self.progress = 0.0
        """The loaded share, 0 to 1."""

    @property
    def is_loaded(self) -> bool:
        return self.llm is not None and self.llm.is_alive

    @property
    def state(self) -> State:
        if self.is_loaded:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "failed" if self.error is not None else "unloaded"

    @property
    def memory_bytes(self) -> int:
        """What it takes while loaded, as planned; before its first load, the size of its file."""
        if self.llm is not None:
            return self.llm.info.memory_bytes
        return self.entry.file_bytes

    @property
    def loaded(self) -> LLM:
        """The model itself; only under a lease."""
        assert self.llm is not None
        return self.llm


OpenModel = Callable[[ModelEntry, Callable[[float], None]], LLM]
"""Loads a model, on a thread; reports the loaded share."""


class ModelManager:
    """Hands out leases on models, loading what is not loaded. Used on the event loop only.

    Args:
        entries: at least one; the first is the default.
        open_model: loads a model; called on a thread, one call at a time.
        max_bytes: memory for all loaded models together; None: what the planner finds free.
        idle_s: an unpinned model that nobody asked for during this time is unloaded; None: never.
        preload: load the default model, and the pinned ones, before anybody asks.
    """

    def __init__(
        self,
        entries: Sequence[ModelEntry],
        open_model: OpenModel,
        *,
        max_bytes: int | None = None,
        idle_s: float | None = None,
        preload: bool = False,
    ) -> None:
        self._models = {entry.name: ServedModel(entry) for entry in entries}
        self._names = _name_table(entries)
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

    @property
    def models(self) -> list[ServedModel]:
        return list(self._models.values())

    def find(self, name: str | None) -> ServedModel:
        """Return the model of this name or alias; None or "" is the default.

        A name without a tag, and with the tag "latest", are the same, as Ollama's clients rely on.

        Raises:
            ModelNotFound: there is none.
        """
        if not name:
            return next(iter(self._models.values()))
        found = self._names.get(name.lower()) or self._names.get(_other_tag(name.lower()))
        if found is None:
            raise ModelNotFound(f"The model {name[:200]!r} is not served here.", hint=f"There is {self._listed()}.")
        return self._models[found]

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
        model = self.find(name)
        while model.gives_way or not model.is_loaded:
            if model.gives_way:
                await self._wait_change()
            else:
                await self._load(model)
        model.n_leases += 1
        model.last_used_s = time.monotonic()
        try:
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
        """Unload a model, when its requests have ended; at once with `force`.

        Raises:
            Refused: it is pinned.
        """
        model = self.find(name)
        if model.pinned and not force:
            raise Refused(409, f"{model.name} is pinned.", code="model_pinned", hint="Unpin it first.")
        if model.llm is not None:
            model.gives_way = True
            try:
                while model.n_leases and not force:
                    await self._wait_change()
                await self._unload(model)
            finally:
                model.gives_way = False
                self._notify()
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
        """Unload everything."""
        self._closing = True
        if self._reaper is not None:
            self._reaper.cancel()
        loading = [model.loading for model in self.models if model.loading is not None]
        await asyncio.gather(*loading, return_exceptions=True)
        for model in self.models:
            await self._unload(model)

    def _listed(self) -> str:
        names = list(self._models)
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    async def _load(self, model: ServedModel) -> None:
        """Load, or wait for the load that is under way. A caller that leaves does not end the load of others."""
        if self._closing:
            raise Overloaded("The server is shutting down.", retry_after_s=10)
        if model.loading is None:
            model.loading = asyncio.create_task(self._load_task(model))
        await asyncio.shield(model.loading)
        if model.error is not None:
            raise model.error

    async def _load_task(self, model: ServedModel) -> None:
        model.error = None
        try:
            async with self._load_lock:
                await self._drop_dead(model)
                await self._open(model)
        except LocalLLMError as error:
            model.error = error
            log.warning("cannot load %s: %s", model.name, error.message)
        finally:
            model.loading = None
            model.progress = 0.0
            self._notify()

    async def _open(self, model: ServedModel) -> None:
        """Load a model, unloading idle ones as long as it does not fit."""
        await self._make_room(model, lambda: self._fits(model))
        while True:
            started = time.monotonic()
            try:
                model.llm = await asyncio.to_thread(self._open_model, model.entry, lambda x: _set_progress(model, x))
            except NotEnoughMemory:
                if not await self._evict_one(model):
                    raise
                continue
            self.n_loads += 1
            model.last_used_s = time.monotonic()
            log.info("loaded %s in %.1f s", model.name, time.monotonic() - started)
            return

    def _fits(self, model: ServedModel) -> bool:
        if self._max_bytes is None:
            return True
        others = sum(m.memory_bytes for m in self.models if m is not model and m.llm is not None)
        return others + model.memory_bytes <= self._max_bytes

    async def _make_room(self, model: ServedModel, fits: Callable[[], bool]) -> None:
        until = time.monotonic() + _ROOM_TIMEOUT_S
        while not fits():
            if not await self._evict_one(model, until=until):
                limit = f"{(self._max_bytes or 0) / 2**30:.1f} GiB"
                raise NotEnoughMemory(
                    f"{model.name} needs {model.memory_bytes / 2**30:.1f} GiB; the limit for all models is {limit}"
                    + (", and pinned ones hold the rest." if any(m.pinned for m in self.models) else "."),
                    hint="Unpin or unload a model, or raise --max-memory.",
                )

    async def _evict_one(self, newcomer: ServedModel, until: float | None = None) -> bool:
        """Unload the least recently used model that may go, idle ones first; False if none may.

        Raises:
            Overloaded: those that may go stay busy too long.
        """
        candidates = [m for m in self.models if m is not newcomer and m.llm is not None and not m.pinned]
        if not candidates:
            return False
        victim = min(candidates, key=lambda m: (m.n_leases > 0, m.last_used_s))
        victim.gives_way = True
        try:
            await self._wait_idle(victim, until or time.monotonic() + _ROOM_TIMEOUT_S)
            await self._unload(victim)
        finally:
            victim.gives_way = False
            self._notify()
        self.n_evictions += 1
        return True

    async def _wait_idle(self, model: ServedModel, until: float) -> None:
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                while model.n_leases:
                    await self._wait_change()
        except TimeoutError:
            raise Overloaded(f"{model.name} is busy, and its memory is needed.", retry_after_s=5) from None

    async def _unload(self, model: ServedModel) -> None:
        llm, model.llm, model.keep_s = model.llm, None, None
        if llm is not None:
            await asyncio.to_thread(llm.close)
            log.info("unloaded %s", model.name)

    async def _drop_dead(self, model: ServedModel) -> None:
        """Forget a model whose worker process is gone."""
        if model.llm is not None and not model.llm.is_alive:
            log.warning("the worker of %s is gone; it is loaded again", model.name)
            await self._unload(model)

    async def _reap(self) -> None:
        """Unload models whose time is over."""
        while True:
            idle = [m for m in self.models if m.llm is not None and not (m.n_leases or m.loading or m.gives_way)]
            first = min(idle, key=self.expires_s, default=None)
            left_s = math.inf if first is None else self.expires_s(first) - time.monotonic()
            if first is not None and left_s <= 0:
                await self.unload(first.name)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _REAP_S)):
                    await self._wait_change()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_change(self) -> None:
        await self._changed.wait()


def _set_progress(model: ServedModel, share: float) -> None:
    model.progress = share


def _name_table(entries: Sequence[ModelEntry]) -> dict[str, str]:
    """Return name or alias, in lower case, to name; a name that was given wins over an alias."""
    table: dict[str, str] = {}
    for entry in entries:
        for alias in entry.aliases:
            table.setdefault(alias.lower(), entry.name)
    return table | {entry.name.lower(): entry.name for entry in entries}


def _other_tag(name: str) -> str:
    """Return the name without its tag "latest", or with it if it has none."""
    return name.removesuffix(_LATEST) if name.endswith(_LATEST) else name + _LATEST
