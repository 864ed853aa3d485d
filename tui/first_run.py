"""Whether this is somebody's first start, and what to offer then: the models that are here, or those that would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from localllm import paths
from localllm.errors import LocalLLMError

MARK = "welcomed"
"""A file in the directory of data: the welcome was shown."""
CONVERSATIONS = "conversations.db"

_N_LOCAL = 3
_CATALOG_SIZES = ((5 << 28, "quick"), (3 << 30, "better"), (6 << 30, "best, and slower"))
"""The largest file of each kind, in bytes, and its word."""
_KIND = "chat"
_MORE_BYTES = 512 << 20
_MORE_SHARE = 1.1
"""What a model takes beside its weights, roughly; the screen of models says it exactly."""


@dataclass(frozen=True)
class Offer:
    """A model to begin with."""

    ref: str
    title: str
    note: str
    is_here: bool
    """Whether it is on this disk; else it is to be fetched."""


def is_first_run() -> bool:
    """Whether nobody has been here: no settings, no conversations, no welcome."""
    data = paths.data_dir()
    return not (paths.config_file().exists() or (data / CONVERSATIONS).exists() or (data / MARK).exists())


def mark_welcomed() -> None:
    """Never show the welcome again. Where nothing can be written, it comes again: that is no error."""
    with suppress(LocalLLMError, OSError):
        (paths.ensure(paths.data_dir()) / MARK).touch()


def demo_offer() -> Offer | None:
    """Return the demo model, if it is installed."""
    from localllm.errors import ModelNotFound
    from localllm.store.demo import DEMO_NAME, demo_model

    try:
        demo_model()
    except ModelNotFound:
        return None
    return Offer(DEMO_NAME, "SmolLM2 135M", "small, and here already", is_here=True)


def offers() -> list[Offer]:
    """Return what to offer beside the demo model. Looks at the disk: call it on a thread."""
    return [*islice(_local_offers(), _N_LOCAL), *_catalog_offers()]


def _local_offers() -> Iterator[Offer]:
    from localllm.hardware.sizes import format_bytes
    from localllm.store.demo import DEMO_NAME
    from localllm.store.inventory import Inventory

    inventory = Inventory()
    for model in inventory.models:
        ref = inventory.ref(model)
        if ref != DEMO_NAME:
            yield Offer(ref, ref, f"{format_bytes(model.n_bytes)}, here", is_here=True)


def _catalog_offers() -> Iterator[Offer]:
    """Yield a small, a middling and a large model that fit this machine, as far as there are such."""
    from localllm.hardware.memory import available_ram_bytes
    from localllm.hardware.sizes import format_bytes
    from localllm.hub.catalog import load_catalog

    room = available_ram_bytes()
    sized = [(entry.n_bytes() or 0, entry) for entry in load_catalog().search(kind=_KIND) if not entry.gated]
    fitting = [(n_bytes, entry) for n_bytes, entry in sized if 0 < n_bytes * _MORE_SHARE + _MORE_BYTES < room]
    chosen: dict[str, Offer] = {}
    for limit, word in _CATALOG_SIZES:
        n_bytes, entry = max((one for one in fitting if one[0] <= limit), key=lambda one: one[0], default=(0, None))
        if entry is not None and entry.name not in chosen:
            note = f"{word}, {format_bytes(n_bytes)} to fetch"
            chosen[entry.name] = Offer(entry.name, entry.title, note, is_here=False)
    yield from chosen.values()
