"""All models of the store as models that may be asked for, those that come and go while the server runs included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import LocalLLMError
from localllm.gguf import glance
from localllm.hardware.types import LoadOptions
from localllm.server.served import ModelEntry
from localllm.store.inventory import Inventory
from localllm.store.models import StoredModel

_PROJECTOR = re.compile(r"(^|[^a-z])mmproj([^a-z]|$)", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[^\w.:+@/-]+")


@dataclass(frozen=True)
class StoreShelf:
    """What the store has beside the models that the user named.

    Args:
        options: of loading, for all of them.
        model_dirs: more folders of the user's.
        but: files that are served already.
    """

    options: LoadOptions
    model_dirs: Sequence[Path] = ()
    but: frozenset[Path] = frozenset()

    def entries(self) -> list[ModelEntry]:
        """Return an entry for each model that lies on this disk now. It looks at files, so call it on a thread."""
        inventory = Inventory(self.model_dirs)
        found = [(inventory.ref(model), model) for model in inventory.models if self._is_wanted(model)]
        return [self._entry(ref, model) for ref, model in found]

    def _is_wanted(self, model: StoredModel) -> bool:
        is_served = model.path in self.but or model.path.resolve() in self.but
        return not is_served and not _PROJECTOR.search(model.path.name) and _kind(model) in ("", "model")

    def _entry(self, ref: str, model: StoredModel) -> ModelEntry:
        names = (model.path.stem if ref == str(model.path) else ref, *model.names, model.path.stem)
        name, *aliases = dict.fromkeys(_NOT_IN_NAMES.sub("-", name) for name in names)
        return ModelEntry(name=name, path=model.path, aliases=tuple(aliases), options=self.options)


def _kind(model: StoredModel) -> str:
    """Return what the file says it is: "model", "adapter", "imatrix" or nothing; "damaged" where it cannot be read."""
    try:
        return str(glance(model.path).get("general.type", ""))
    except LocalLLMError:
        return "damaged"
