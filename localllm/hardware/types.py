"""The values that the planner takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]
SpecMode = Literal["auto", "off", "ngram", "lookahead", "draft"]
"""Drafts. auto: where they are expected to pay; off: never; at any price: ngram: wherever the text repeats, lookahead:
guessed by the model itself, in every step, draft: by the draft model."""


@dataclass(frozen=True)
class Device:
    """One device that ggml can compute on, and its memory in bytes."""

    name: str
    description: str
    kind: DeviceKind
    memory_total_bytes: int
    memory_free_bytes: int


N_SEQ_LIMIT = 256
"""Sequence ids that a context may have (llama.cpp's LLAMA_MAX_SEQ): slots and kept prefixes together."""
N_KEPT_PREFIXES = 16
"""Sequence ids beside the slots, for prefixes that wait in the cache; each costs a row of logits."""


def n_sequence_ids(n_slots: int) -> int:
    """Return how many sequence ids a context of `n_slots` slots gets."""
    return min(N_SEQ_LIMIT, n_slots + N_KEPT_PREFIXES)


N_BRANCH_IDS = 24
"""Sequence ids beside those, for the branches of lookahead steps, all streams together."""


def n_branch_ids(n_slots: int) -> int:
    """Return how many sequence ids a context of `n_slots` slots has for branches; slots and prefixes come first."""
    return min(N_BRANCH_IDS, N_SEQ_LIMIT - n_sequence_ids(n_slots))


N_DRAFT_BATCH = 256
"""Tokens of a batch of the draft model, unless there are more slots."""
MAX_DRAFT_TOKENS = 47
"""Draft tokens of one step, all streams together. With a single stream's own token that is 48, a multiple of the rows
that ggml's CPU kernels take at once."""


def n_output_rows(n_slots: int) -> int:
    """Return how many rows of logits a context of `n_slots` slots sets aside: drafts need one a token.

    llama.cpp wants a row for each sequence id.
    """
    return max(n_sequence_ids(n_slots) + n_branch_ids(n_slots), n_slots + MAX_DRAFT_TOKENS)


MAX_ADAPTER_SCALE = 10.0
"""At scales far beyond those that adapters are trained for, keys and values overflow f16. An infinite value in one
sequence's cells turns the attention of all others to NaN, since llama.cpp multiplies what is masked by 0."""


@dataclass(frozen=True)
class AdapterSpec:
    """A LoRA adapter to load beside the model. Its id is its place among them, from 0."""

    path: Path
    scale: float = 1.0
    """How strongly it is applied where a request does not say; 0 is not at all."""


MAX_KEPT_BYTES = 1 << 30
"""RAM for kept prompts, where there is plenty."""

KV_AUTO = "auto"
"""A KV type that the planner shall choose."""


@dataclass(frozen=True)
class LoadOptions:
    """What the caller asked for; None means: choose."""

    n_ctx: int | None = None
    gpu_layers: int | Literal["auto", "all"] = "auto"
    n_slots: int = 4
    n_threads: int | None = None
    kv_type_k: str = "f16"
    """Of KV_TYPES, or "auto"."""
    kv_type_v: str = "f16"
    n_batch: int = 2048
    n_ubatch: int = 512
    adapters: tuple[AdapterSpec, ...] = ()
    spec: SpecMode = "auto"
    """For requests that do not say."""
    kv_store_bytes: int = 0
    """Disk for the states of prompts, all models together; 0 keeps none."""
    shares_texts: bool = False
    """Whether n-gram lookup also looks at what earlier requests said."""
    draft_model: Path | None = None
    """A small model with the same vocabulary, which proposes tokens."""
    rpc: tuple[str, ...] = ()
    """"host:port" of RPC servers, whose devices are used too."""
    max_gpu_layers: int | None = None
    """Where `gpu_layers` is "auto": no more than these."""
    max_n_ctx: int | None = None
    """Where `n_ctx` is None: no more than this."""
    max_memory_bytes: int | None = None
    """What the whole may take, kept prompts included; None: what is free."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Predicted bytes of a plan, all devices together."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    repacked_bytes: int = 0
    """Weights that lie in RAM in another order than in the file; those of the file may then be dropped."""

    @property
    def total_bytes(self) -> int:
        """What must be in memory."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes

    @property
    def allocated_bytes(self) -> int:
        """What llama.cpp counts, which is also the mapped originals of repacked weights."""
        return self.total_bytes + self.repacked_bytes

    def __add__(self, other: MemoryEstimate) -> MemoryEstimate:
        return MemoryEstimate(
            self.weights_bytes + other.weights_bytes,
            self.kv_bytes + other.kv_bytes,
            self.compute_bytes + other.compute_bytes,
            self.repacked_bytes + other.repacked_bytes,
        )


@dataclass(frozen=True)
class LoadPlan:
    """Everything needed to load a model and make a context; every field is decided."""

    path: str
    n_ctx: int
    """Cells in the one pool that all slots share."""
    n_slots: int
    n_gpu_layers: int
    kv_type_k: str
    kv_type_v: str
    n_batch: int
    n_ubatch: int
    n_threads: int
    estimate: MemoryEstimate
    devices: tuple[Device, ...] = field(default=())
    notes: tuple[str, ...] = ()
    """What was reduced and why, a line each, for the user."""
    spec: SpecMode = "auto"
    """For requests that do not say."""
    shares_texts: bool = False
    """Whether n-gram lookup also looks at what earlier requests said."""
    ram_bytes: int = 0
    """What of the estimate lies in the computer's own memory, the share of integrated GPUs included."""
    device_bytes: tuple[int, ...] = ()
    """What lies on each of `devices`."""
    device_layers: tuple[int, ...] = ()
    """Layers on each of `devices`, the output counted as one."""
    kept_bytes: int = MAX_KEPT_BYTES
    """RAM beside the estimate for prompts that left the cache: what they may take at most."""
    n_draft_gpu_layers: int = 0
    """Of the draft model; it has the same cells, KV types and threads."""
