"""What a stored model is, from the beginning of its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from localllm.errors import LocalLLMError
from localllm.gguf import FILE_TYPES, glance, read_header
from localllm.gguf.shape import ENCODERS, POOLINGS
from localllm.gguf.values import MetadataValue
from localllm.store.models import StoredModel

_RANK = POOLINGS.index("rank")
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:\d+x)?\d+(?:\.\d+)?[BM](?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a header says; empty where it says nothing, or cannot be read."""

    title: str | None = None
    """The model's own name for itself."""
    architecture: str | None = None
    size_label: str | None = None
    """How many weights it has, in the maker's words: "1.5B", "8x7B"; where the header has none, those of its name."""
    n_params: int | None = None
    """The same, counted; where there are words, only if the header says it."""
    quantization: str | None = None
    n_ctx_train: int | None = None
    """Tokens."""
    kind: str | None = None
    """ "text", "embedding", "rerank" or "adapter"."""
    problem: str | None = None
    """Why the header cannot be read; then there is nothing else."""


def read_facts(model: StoredModel) -> Facts:
    """Read what the header of a model says.

    Cheap (0.2 ms) where its beginning, or the model's name, says how large the model is and how it was quantized. Else
    all of it is read, and the tensors are counted, which are behind the vocabulary.
    """
    try:
        facts = _facts(glance(model.path), model)
        if facts.quantization is not None and (facts.size_label or facts.n_params):
            return facts
        header = read_header(model.path)
        n_params = sum(tensor.n_params for tensor in header.tensors)
        return replace(_facts(header.metadata, model), n_params=n_params)
    except LocalLLMError as error:
        return Facts(problem=error.message)


def size_in(name: str) -> str | None:
    """Return the number of weights that a name says, as "7B" or "8x7B"; None if it says none."""
    found = _SIZE.search(name)
    return found[0].upper().replace("X", "x") if found else None


def _facts(metadata: Mapping[str, MetadataValue], model: StoredModel) -> Facts:
    architecture = _text(metadata, "general.architecture")
    file_type = metadata.get("general.file_type")
    return Facts(
        title=_text(metadata, "general.name"),
        architecture=architecture,
        size_label=_text(metadata, "general.size_label") or size_in(" ".join(model.names)),
        n_params=_number(metadata, "general.parameter_count"),
        quantization=(FILE_TYPES.get(file_type) if isinstance(file_type, int) else None) or model.quantization,
        n_ctx_train=_number(metadata, f"{architecture}.context_length"),
        kind=_kind(metadata, architecture or ""),
    )


def _text(metadata: Mapping[str, MetadataValue], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def _number(metadata: Mapping[str, MetadataValue], key: str) -> int | None:
    value = metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _kind(metadata: Mapping[str, MetadataValue], architecture: str) -> str:
    if metadata.get("general.type") == "adapter":
        return "adapter"
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _RANK:
        return "rerank"
    looks_ahead = architecture in ENCODERS or metadata.get(f"{architecture}.attention.causal") is False
    pools = isinstance(pooling, int) and 0 < pooling < len(POOLINGS)
    return "embedding" if looks_ahead or pools else "text"
