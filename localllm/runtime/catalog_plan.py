"""What a model of the catalog would take, before a byte of it is fetched.

The catalog knows a file's size and a model's layers, heads and widths, not its vocabulary or which tensor is of which
type. So weights and KV are as close as its numbers, and the compute buffers are those of a large vocabulary. The header
knows better: `localllm.runtime.planning.plan_report`.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.errors import NotEnoughMemory
from localllm.gguf.weights import Matrix
from localllm.hardware import available_ram_bytes, plan_load
from localllm.hardware.alternatives import Alternative, alternatives
from localllm.hardware.types import LoadOptions, LoadPlan
from localllm.hub.catalog_entry import CatalogEntry

N_VOCAB = 152_000
"""Tokens of the larger vocabularies of today; few models have more."""
N_CTX = 8192
"""Tokens, where the catalog does not say what a model was trained for."""
N_FF_SHARE = 4
"""Feed-forward width to the model's: 2.7 to 5.3 in the models of the catalog."""


@dataclass(frozen=True)
class EntryShape:
    """The numbers that decide what a model of the catalog costs, as far as they are known."""

    n_layer: int
    n_embd: int
    n_head_max: int
    n_head_kv: tuple[int, ...]
    head_dim_k: int
    n_ctx_train: int
    weights_bytes: int
    is_encoder: bool
    architecture: str = "unknown"
    n_vocab: int = N_VOCAB
    n_expert_used: int = 0
    n_masks: int = 1

    @property
    def head_dim_v(self) -> int:
        return self.head_dim_k

    @property
    def kv_width_k(self) -> tuple[int, ...]:
        return tuple(n * self.head_dim_k for n in self.n_head_kv)

    @property
    def kv_width_v(self) -> tuple[int, ...]:
        return self.kv_width_k

    @property
    def state_bytes(self) -> tuple[int, ...]:
        return (0,) * self.n_layer

    @property
    def keeps_kv(self) -> bool:
        return not self.is_encoder

    @property
    def n_ff_active(self) -> int:
        return N_FF_SHARE * self.n_embd

    @property
    def token_embd_bytes(self) -> int:
        return min(self.weights_bytes // 10, self.n_vocab * self.n_embd)

    @property
    def output_bytes(self) -> int:
        return 0

    @property
    def layer_bytes(self) -> tuple[int, ...]:
        return ((self.weights_bytes - self.token_embd_bytes) // self.n_layer,) * self.n_layer

    @property
    def matrices(self) -> tuple[tuple[Matrix, ...], ...]:
        return ((),) * (self.n_layer + 1)


@dataclass(frozen=True)
class Prospect:
    """Whether a model fits, and how."""

    chosen: LoadPlan | None
    refusal: NotEnoughMemory | None
    """Why nothing was chosen."""
    others: tuple[Alternative, ...]


def plan_entry(entry: CatalogEntry, n_bytes: int, options: LoadOptions) -> Prospect | None:
    """Plan to load a model of the catalog; None where the catalog knows too little of it.

    Args:
        entry: the model.
        n_bytes: of the file that is meant.
        options: what the planner shall respect.
    """
    from localllm.llama import cpu_features, list_devices

    shape = entry_shape(entry, n_bytes)
    if shape is None:
        return None
    devices, features, ram_free_bytes = list_devices(), cpu_features(), available_ram_bytes()

    def planner(wanted: LoadOptions) -> LoadPlan:
        return plan_load(shape, entry.name, devices, wanted, ram_free_bytes, cpu_features=features)

    chosen, refusal = None, None
    try:
        chosen = planner(options)
    except NotEnoughMemory as error:
        refusal = error
    others = () if chosen is not None else tuple(alternatives(shape, options, None, planner))
    return Prospect(chosen, refusal, others)


def entry_shape(entry: CatalogEntry, n_bytes: int) -> EntryShape | None:
    """Return what is known of a model's shape; None where layers, heads or width are not."""
    if not (entry.n_layers and entry.n_heads and entry.n_embd and n_bytes):
        return None
    head_dim = entry.head_dim or entry.n_embd // entry.n_heads
    return EntryShape(
        n_layer=entry.n_layers,
        n_embd=entry.n_embd,
        n_head_max=entry.n_heads,
        n_head_kv=(entry.n_kv_heads or entry.n_heads,) * entry.n_layers,
        head_dim_k=head_dim,
        n_ctx_train=entry.n_ctx or N_CTX,
        weights_bytes=n_bytes,
        is_encoder=entry.kind in ("embedding", "rerank"),
    )
