"""How many bytes a model and its context take, from the model's shape alone.

KV bytes are exact. Compute-buffer bytes are a close upper bound found by following what ggml's graph allocator
must keep alive at once; benchmarks/plan.py and tests/hardware/test_estimate_real.py hold it against llama.cpp's own
numbers. This module does not know which device anything is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from localllm.gguf.weights import Matrix
from localllm.hardware.kv_types import KVType

N_CTX_STEP = 256
"""llama.cpp rounds every context up to a multiple of this many cells."""

_FLOAT_BYTES = 4
_INPUT_BYTES = 32
"""Of one token's inputs: its id, its position, and its cells in K and in V."""
_RECURRENT_ROWS = 13
"""Of n_embd, that a recurrent layer computes side by side: six of its inner width, which is twice n_embd in Mamba."""
_GRAPH_BYTES = 16 * 1024
"""Of what does not grow with the tokens."""


class ModelShape(Protocol):
    """What of a model's header decides its memory; `localllm.gguf.ModelShape` is the real one."""

    @property
    def architecture(self) -> str: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def n_head_max(self) -> int:
        """Query heads of the layer that has the most."""

    @property
    def n_head_kv(self) -> Sequence[int]:
        """One count per layer; 0 for a layer without attention."""

    @property
    def head_dim_k(self) -> int: ...
    @property
    def head_dim_v(self) -> int: ...
    @property
    def kv_width_k(self) -> Sequence[int]:
        """Values that one token adds to each layer's K cache; 0 for a layer that keeps none."""

    @property
    def kv_width_v(self) -> Sequence[int]:
        """The same of the V cache; 0 throughout with latent attention (MLA), which has no V."""

    @property
    def state_bytes(self) -> Sequence[int]:
        """What each recurrent layer keeps of one sequence; 0 for the others."""

    @property
    def n_ctx_train(self) -> int: ...
    @property
    def is_encoder(self) -> bool:
        """Each text is computed at once, since its tokens see the whole of it."""

    @property
    def keeps_kv(self) -> bool:
        """Tokens leave keys and values behind for those after them."""

    @property
    def n_vocab(self) -> int: ...
    @property
    def n_ff_active(self) -> int:
        """Feed-forward values that one token makes side by side; with experts, of all that it uses."""

    @property
    def n_expert_used(self) -> int: ...
    @property
    def n_masks(self) -> int:
        """Attention masks: one for all, and one more where some layers have a sliding window."""

    @property
    def weights_bytes(self) -> int:
        """All tensors together."""

    @property
    def layer_bytes(self) -> Sequence[int]:
        """Tensors of each repeating layer."""

    @property
    def output_bytes(self) -> int:
        """The output matrix; 0 where the token embedding does its work."""

    @property
    def token_embd_bytes(self) -> int: ...
    @property
    def matrices(self) -> Sequence[Sequence[Matrix]]:
        """What a token is multiplied by, of each layer, and last of the output layer."""


def padded_n_ctx(n_ctx: int) -> int:
    """Return `n_ctx` rounded up as llama.cpp rounds it. Source: llama-context.cpp, `GGML_PAD(n_ctx, 256)`."""
    return -(-n_ctx // N_CTX_STEP) * N_CTX_STEP


def uses_flash_attention(shape: ModelShape) -> bool:
    """Return whether llama.cpp will use flash attention when it may choose; Grok is the one it refuses."""
    return shape.architecture != "grok"


def kv_layer_bytes(shape: ModelShape, kind_k: KVType, kind_v: KVType, n_ctx: int) -> list[int]:
    """Return the KV bytes of each layer in a unified cache of `n_ctx` cells.

    None for encoders. Exact; layers with a sliding window are counted in full, since `swa_full` is llama.cpp's default.

    Source: llama-kv-cache.cpp, constructor. Without flash attention V is transposed and every layer's is as
    wide as the widest.
    """
    cells = padded_n_ctx(n_ctx)
    widest = 0 if uses_flash_attention(shape) else max(shape.kv_width_v, default=0)
    return [
        cells * (kind_k.row_bytes(width_k) + kind_v.row_bytes(widest or width_v)) if width_k else 0
        for width_k, width_v in zip(shape.kv_width_k, shape.kv_width_v, strict=True)
    ]


def compute_buffer_bytes(
    shape: ModelShape,
    n_ctx: int,
    n_ubatch: int,
    *,
    n_seq_max: int = 1,
    n_outputs: int | None = None,
    flash_attention: bool = True,
) -> int:
    """Return a close upper bound of one device's compute buffer.

    llama.cpp reserves the graph of a full micro-batch over a full cache; None is an output of every token. Three phases
    can be the peak, and their tensors share memory:

    - feed-forward: the masks, n_ctx wide (f16 with flash attention, else f32); gate, up and their product, n_ff each;
      four rows of n_embd;
    - attention: the masks, and without flash attention the scores, (n_head, n_ctx); in a recurrent layer a copy of all
      sequences' states;
    - output: the logits, n_vocab.

    A few rows (residual, norm, Q, K, V) live beside the latter two; in the last, of the tokens with an output only. The
    tokens are rounded up to a multiple of `n_seq_max`, as `graph_reserve` does.
    """
    cells = padded_n_ctx(n_ctx)
    n_tokens = -(-min(cells, n_ubatch) // n_seq_max) * n_seq_max
    n_masks = shape.n_masks if any(shape.kv_width_k) or shape.is_encoder else 0
    masks_bytes = n_masks * cells * (2 if flash_attention else _FLOAT_BYTES)
    scores = 0 if flash_attention else shape.n_head_max * cells
    width = max(shape.n_embd, shape.n_head_max * max(shape.head_dim_k, shape.head_dim_v))
    feed_forward = masks_bytes + (3 * shape.n_ff_active + 4 * shape.n_embd) * _FLOAT_BYTES
    kv_width = max(map(max, zip(shape.kv_width_k, shape.kv_width_v, strict=True)), default=0)
    rows = 2 * (width + kv_width) + 4 * shape.n_embd if flash_attention else 6 * width
    if any(shape.state_bytes):
        rows = max(rows, _RECURRENT_ROWS * shape.n_embd)
    attention = masks_bytes + (scores + rows) * _FLOAT_BYTES
    n_rows = min(n_outputs or n_tokens, n_tokens)
    logits_bytes = n_rows * (shape.n_vocab + 6 * width) * _FLOAT_BYTES
    states_bytes = n_seq_max * max(shape.state_bytes, default=0)
    peak = max(n_tokens * max(feed_forward, attention) + states_bytes, logits_bytes)
    return peak + n_tokens * _INPUT_BYTES + _GRAPH_BYTES


def output_buffer_bytes(shape: ModelShape, n_outputs: int) -> int:
    """Return the bytes of `n_outputs` rows of logits in RAM, where llama.cpp copies them for the sampler.

    It reserves one row for every sequence id at once, and more only for a batch with more outputs. Where embeddings
    are computed, every token has a row, with a place for its logits even where there are none.
    """
    return n_outputs * shape.n_vocab * _FLOAT_BYTES
