"""The models that one may chat with, wherever they are; for other threads than the interface's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localllm.errors import LocalLLMError

if TYPE_CHECKING:
    from localllm.config import Settings

SERVED, HERE, REMOTE = "Running in localllm serve", "On this disk", "On other machines"


@dataclass(frozen=True)
class ModelChoice:
    """One model."""

    ref: str
    group: str
    n_bytes: int | None = None
    detail: str = ""


def model_choices() -> list[ModelChoice]:
    """Return what a server on this machine has loaded, what is on the disk, and the remotes."""
    from tui.attached import attached_models

    served = [ModelChoice(ref, SERVED, detail="loaded there already") for ref in attached_models()]
    return [*served, *_stored(), *_remotes()]


def default_ref(settings: Settings, used: Iterable[str]) -> str | None:
    """Return the model to begin with; None where there is none at all.

    Args:
        settings: `model` goes first.
        used: what conversations were had with, the latest first.
    """
    from localllm.store import knows
    from localllm.store.demo import DEMO_NAME, demo_model

    if settings.model is not None:
        return settings.model
    for ref in dict.fromkeys(used):
        if ref.startswith("@") or knows(ref):
            return ref
    try:
        demo_model()
    except LocalLLMError:
        return next((choice.ref for choice in sorted(_stored(), key=lambda one: one.n_bytes or 0)), None)
    return DEMO_NAME


def _stored() -> list[ModelChoice]:
    from localllm.store.inventory import Inventory

    inventory = Inventory()
    return [
        ModelChoice(
            inventory.ref(model), HERE, model.n_bytes, " · ".join(filter(None, (model.quantization, model.place)))
        )
        for model in inventory.models
    ]


def _remotes() -> list[ModelChoice]:
    from localllm.remotes.registry import Remotes

    try:
        remotes = Remotes().all()
    except LocalLLMError:
        return []
    return [ModelChoice(f"@{name}", REMOTE, detail=remote.model or remote.root_url) for name, remote in remotes.items()]
