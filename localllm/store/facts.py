"""What a stored model is, from the beginning of its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localllm.errors import LocalLLMError
from localllm.gguf import FILE_TYPES, glance, read_header
from localllm.gguf.shape import ENCODERS, POOLINGS
from localllm.gguf.values import MetadataValue
from localllm.store.models import StoredModel

_RANK = POOLINGS.index("rank")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a header says; empty where it says nothing, or cannot be read."""

    title: str | None = None
    """The model's own name for itself."""
    architecture: str | None = None
    size_label: str | None = None
    """How many weights it has, in the maker's words: "1.5B", "8x7B"."""
    n_params: int | None = None
    """The same, counted; only where there are no words."""
    quantization: str | None = None
    n_ctx_train: int | None = None
    """Tokens."""
    kind: str | None = None
    """ "text", "embedding" or "rerank"."""
    problem: str | None = None
    """Why the header cannot be read; then there is nothing else."""


def read_facts(model: StoredModel) -> Facts:
    """Read what the header of a model says.

    Cheap (0.2 ms) where it says how large the model is. Else the tensors are counted, which are behind the vocabulary.
    """
    try:
        metadata = glance(model.path)
        facts = _facts(metadata, model.quantization)
        if facts.size_label is None or facts.quantization is None:
            return _counted(model)
    except LocalLLMError as error:
        return Facts(problem=error.message)
    return facts


def _counted(model: StoredModel) -> Facts:
    header = read_header(model.path)
    facts = _facts(header.metadata, model.quantization)
    n_params = sum(tensor.n_params for tensor in header.tensors)
    return Facts(
        title=facts.title,
        architecture=facts.architecture,
        size_label=facts.size_label,
        n_params=n_params,
        quantization=facts.quantization,
        n_ctx_train=facts.n_ctx_train,
        kind=facts.kind,
    )


def _facts(metadata: Mapping[str, MetadataValue], named: str | None) -> Facts:
    architecture = _text(metadata, "general.architecture")
    file_type = metadata.get("general.file_type")
    n_ctx = metadata.get(f"{architecture}.context_length")
    return Facts(
        title=_text(metadata, "general.name"),
        architecture=architecture,
        size_label=_text(metadata, "general.size_label"),
        quantization=(FILE_TYPES.get(file_type) if isinstance(file_type, int) else None) or named,
        n_ctx_train=n_ctx if isinstance(n_ctx, int) and not isinstance(n_ctx, bool) else None,
        kind=_kind(metadata, architecture or ""),
    )


def _text(metadata: Mapping[str, MetadataValue], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def _kind(metadata: Mapping[str, MetadataValue], architecture: str) -> str:
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _RANK:
        return "rerank"
    looks_ahead = architecture in ENCODERS or metadata.get(f"{architecture}.attention.causal") is False
    pools = isinstance(pooling, int) and 0 < pooling < len(POOLINGS)
    return "embedding" if looks_ahead or pools else "text"
