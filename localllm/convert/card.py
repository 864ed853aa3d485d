"""A model's name, licence, languages and origin, from its card (README.md) and the name of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
from yaml import YAMLError

from localllm.convert.tensors import OutputTensor

_UNREADABLE = (YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError)
"""What `gguf` raises over a card that is not as most are."""


def read_card(folder: Path, tensors: Sequence[OutputTensor]) -> gguf.Metadata:
    """Return what is known of a model's origin; of a card that cannot be read, nothing but the folder's name."""
    folder = folder.resolve()
    sizes = [tensor.n_items for tensor in tensors]
    try:
        card = gguf.Metadata.load(None, folder, None, sum(sizes))
    except _UNREADABLE:
        card = gguf.Metadata()
    card.name = card.name or folder.name or "model"
    card.size_label = card.size_label or _size_label(tensors)
    return card


def _size_label(tensors: Sequence[OutputTensor]) -> str:
    experts = [tensor for tensor in tensors if "_exps." in tensor.name]
    n_expert = experts[0].shape[0] if experts else 0
    n_of_experts = sum(tensor.n_items for tensor in experts)
    n_all = sum(tensor.n_items for tensor in tensors)
    label: str = gguf.size_label(n_all, n_all - n_of_experts, n_of_experts // max(1, n_expert), n_expert)
    return label
