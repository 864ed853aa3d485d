"""Which models may be asked for, and by what names. Those of the store come and go while the server runs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from localllm.errors import ModelNotFound
from localllm.server.served import ModelEntry, ServedModel

MoreEntries = Callable[[], Sequence[ModelEntry]]
"""Finds models beside those that were given; called on a thread."""

LOOK_S = 2.0
"""What is on the disk is not looked at again before this."""
_LATEST = ":latest"


class ModelDirectory:
    """Models by name. Used on the event loop only.

    Args:
        entries: those that are always there; the first is the default.
        more: finds others, again and again; names of `entries` go first. None: there are no others.
    """

    def __init__(self, entries: Sequence[ModelEntry], more: MoreEntries | None = None) -> None:
        self._given = tuple(entry.name.lower() for entry in entries)
        self._models = {entry.name.lower(): ServedModel(entry) for entry in entries}
        self._names = _name_table(self._models.values())
        self._more = more
        self._looked_s = -math.inf
        self._lock = asyncio.Lock()

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
        key = name.lower()
        found = self._names.get(key) or self._names.get(_other_tag(key))
        if found is None:
            raise ModelNotFound(f"The model {name[:200]!r} is not served here.", hint=f"There is {self._listed()}.")
        return found

    async def seek(self, name: str | None) -> ServedModel:
        """Return the model of a name, as `find`; one that came since the last look included.

        Raises:
            ModelNotFound: there is none.
        """
        with suppress(ModelNotFound):
            return self.find(name)
        await self.look()
        return self.find(name)

    async def look(self) -> None:
        """See which models came, and which left; those that are in use stay."""
        if self._more is None:
            return
        async with self._lock:
            if time.monotonic() - self._looked_s < LOOK_S:
                return
            found = await asyncio.to_thread(self._more)
            self._looked_s = time.monotonic()
            self._take({entry.name.lower(): entry for entry in found})

    def _take(self, found: dict[str, ModelEntry]) -> None:
        kept = {
            key: model
            for key, model in self._models.items()
            if key in self._given or model.is_in_use or _is_same(model, found.get(key))
        }
        come = {key: ServedModel(entry) for key, entry in found.items() if key not in kept}
        self._models = kept | come
        self._names = _name_table(self._models.values())

    def _listed(self) -> str:
        names = [model.name for model in self._models.values()]
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _is_same(model: ServedModel, entry: ModelEntry | None) -> bool:
    return entry is not None and entry.path == model.entry.path


def _name_table(models: Iterable[ServedModel]) -> dict[str, ServedModel]:
    """Return models by name and alias, in lower case; a name wins over an alias, and the first alias over others."""
    models = list(models)
    table: dict[str, ServedModel] = {}
    for model in models:
        for alias in model.entry.aliases:
            table.setdefault(alias.lower(), model)
    return table | {model.name.lower(): model for model in models}


def _other_tag(name: str) -> str:
    """Return the name without its tag "latest", or with it if it has none."""
    return name.removesuffix(_LATEST) if name.endswith(_LATEST) else name + _LATEST
