"""What a model's header says about its size: layers, heads, weights, and the memory that its context takes.

It does not know which machine will run it, nor what llama.cpp's compute buffers take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from localllm.errors import RequestError
from localllm.gguf.header import GGUFHeader
from localllm.gguf.hparams import MAX_LAYERS, Hparams
from localllm.gguf.problems import invalid, printable
from localllm.gguf.types import GGML_TYPES_BY_NAME, GGMLType
from localllm.gguf.values import ArrayRef
from localllm.gguf.weights import Matrix, Weights

MAX_EXPERTS = 1024
"""LLAMA_MAX_EXPERTS: llama.cpp ends the process over more."""
MAX_WIDTH = 1 << 24
_FLOAT_BYTES = 4
MAX_HEADS = 1 << 16
MAX_U32 = (1 << 32) - 1

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Architectures without attention: a state of constant size, which cannot be rolled back."""
HYBRID = frozenset(
    {
        "jamba", "falcon-h1", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe",
        "qwen3next", "kimi-linear", "bailingmoe3", "kimi-k3", "glm5-next", "qwen35", "qwen35moe", "qwen4exp",
        "deepseek4", "minimax-01",
    }
)  # fmt: skip
"""Architectures that mix attention with recurrent layers. Source: `llm_arch_is_hybrid` in llama-arch.cpp."""
ENCODERS = frozenset(
    {
        "bert", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert",
        "nomic-bert", "nomic-bert-moe",
    }
)  # fmt: skip
"""Architectures whose tokens see the whole text, and which keep nothing between batches: they embed or rank text, and
cannot continue it. Source: `llama_model::create_memory`."""
WINDOWED = frozenset(
    {
        "afmoe", "cohere2", "cohere2moe", "deepseek4", "dflash", "dots3note", "exaone-moe", "exaone4",
        "gemma-embedding", "gemma2", "gemma3", "gemma3n", "gemma4", "gemma4-assistant", "gpt-oss", "granite-swa",
        "laguna", "lfm2", "llama4", "maple", "mellum", "mimo2", "modern-bert", "muse-glimmer", "olmo2", "plamo3",
        "smallthinker", "spark2-5", "step35",
    }
)  # fmt: skip
"""Architectures some of whose layers llama.cpp gives a sliding window where the file names one; others' it ignores.
Source: `swa_type` in src/models/."""
POOLINGS = ("none", "mean", "cls", "last", "rank")
"""How a text's token embeddings become one, by llama.cpp's numbers."""
_NOT_A_MODEL = {
    "adapter": "a LoRA adapter: pass it along with the model that it was trained for",
    "mmproj": "a projector for images or sound: pass it along with its model",
    "imatrix": "an importance matrix, made for quantizing a model",
}


@dataclass(frozen=True)
class ModelShape:
    """The numbers that decide what a model costs."""

    architecture: str
    n_layer: int
    n_embd: int
    n_head: tuple[int, ...]
    """Query heads of each layer."""
    n_head_kv: tuple[int, ...]
    """Key and value heads of each layer; 0 where a layer has no attention."""
    head_dim_k: int
    head_dim_v: int
    n_ctx_train: int
    """Tokens of context that the model was trained for."""
    n_vocab: int
    n_ff: int
    """Width of the feed-forward layer, the largest of all layers."""
    n_ff_active: int
    """Feed-forward values that one token makes side by side: with experts, those of all that it uses."""
    n_expert: int
    n_expert_used: int
    n_swa: int
    """Tokens that sliding-window layers look back over; 0 without such layers."""
    is_recurrent: bool
    """No attention at all: nothing in memory can be rolled back."""
    is_hybrid: bool
    """Some layers are recurrent."""
    is_encoder: bool
    """Attention looks ahead, so the model embeds or ranks text and cannot continue it."""
    keeps_kv: bool
    """Tokens leave keys and values behind for those after them."""
    pooling: str | None
    """How its token embeddings become one, of `POOLINGS`; None where the file does not say."""
    can_rank: bool
    """It has an output layer that scores a pair of texts."""
    kv_width_k: tuple[int, ...]
    """Values that one token adds to each layer's K cache."""
    kv_width_v: tuple[int, ...]
    """Values that one token adds to each layer's V cache."""
    state_bytes: tuple[int, ...]
    """What each layer that is recurrent keeps of one sequence, however long it is."""
    weights: Weights

    @property
    def n_head_max(self) -> int:
        """Query heads of the layer that has the most."""
        return max(self.n_head)

    @property
    def n_masks(self) -> int:
        """Attention masks that llama.cpp makes: one for the whole context, and one for the windows."""
        return 2 if self.architecture in WINDOWED and self.n_swa else 1

    @property
    def matrices(self) -> tuple[tuple[Matrix, ...], ...]:
        return self.weights.matrices

    @property
    def weights_bytes(self) -> int:
        return self.weights.n_bytes

    @property
    def layer_bytes(self) -> tuple[int, ...]:
        return self.weights.layer_bytes

    @property
    def output_bytes(self) -> int:
        return self.weights.output_bytes

    @property
    def token_embd_bytes(self) -> int:
        return self.weights.token_embd_bytes

    @classmethod
    def from_header(cls, header: GGUFHeader) -> ModelShape:
        """Derive the shape.

        Raises:
            InvalidModelFile: a number is missing or impossible, or the file is no language model.
        """
        _check_is_model(header)
        keys = Hparams(header)
        n_layer = keys.number("block_count", 1, MAX_LAYERS)
        keys.number("nextn_predict_layers", 0, n_layer, 0)
        n_embd = keys.number("embedding_length", 1, MAX_WIDTH)
        is_recurrent = header.architecture in RECURRENT
        n_head, n_head_kv = _heads(keys, n_layer, is_recurrent)
        head_dim = n_embd // max(n_head[0], 1)
        lowest = 0 if is_recurrent else 1
        head_dim_k = keys.number("attention.key_length", lowest, MAX_WIDTH, head_dim)
        head_dim_v = keys.number("attention.value_length", lowest, MAX_WIDTH, head_dim)
        n_expert, n_expert_used = _experts(keys)
        keeps_kv = header.architecture not in ENCODERS
        width_k, width_v = _kv_widths(keys, n_head_kv if keeps_kv else (0,) * n_layer, head_dim_k, head_dim_v)
        pooling = _pooling(keys)
        return cls(
            architecture=header.architecture,
            n_layer=n_layer,
            n_embd=n_embd,
            n_head=n_head,
            n_head_kv=n_head_kv,
            head_dim_k=head_dim_k,
            head_dim_v=head_dim_v,
            n_ctx_train=keys.number("context_length", 1, MAX_U32),
            n_vocab=_n_vocab(header, keys),
            n_ff=keys.largest("feed_forward_length", MAX_WIDTH),
            n_ff_active=_n_ff_active(keys, n_expert_used),
            n_expert=n_expert,
            n_expert_used=n_expert_used,
            n_swa=keys.number("attention.sliding_window", 0, MAX_U32, 0),
            is_recurrent=is_recurrent,
            is_hybrid=header.architecture in HYBRID or (keys.has("ssm.state_size") and not is_recurrent),
            is_encoder=not keeps_kv or header.metadata.get(f"{header.architecture}.attention.causal") is False,
            keeps_kv=keeps_kv,
            pooling=pooling,
            can_rank=pooling == "rank" and header.tensor("cls.output.weight") is not None,
            kv_width_k=width_k,
            kv_width_v=width_v,
            state_bytes=tuple(_FLOAT_BYTES * _n_state(keys, n_embd) if not width else 0 for width in width_k),
            weights=Weights.from_header(header, n_layer),
        )

    def with_adapters(self, adapters: Iterable[Weights]) -> ModelShape:
        """Return the shape of the model with adapters loaded, each of whose parts lies beside what it adapts."""
        return replace(self, weights=reduce(Weights.plus, adapters, self.weights))

    def layer_kv_bytes_per_token(self, layer: int, type_k: str = "f16", type_v: str = "f16") -> int:
        """Return the KV cache bytes that one token takes in one layer.

        An upper bound for sliding-window layers, whose cache stops growing at `n_swa` tokens.

        Args:
            layer: from 0.
            type_k: ggml's name of the K cache's type, such as "f16" or "q8_0".
            type_v: the same for V.

        Raises:
            RequestError: there is no such type, or the heads are not a whole number of its blocks.
        """
        k = _cache_type(type_k, self.head_dim_k).n_bytes(self.kv_width_k[layer])
        return k + _cache_type(type_v, self.head_dim_v).n_bytes(self.kv_width_v[layer])

    def kv_bytes_per_token(self, type_k: str = "f16", type_v: str = "f16") -> int:
        """Return the KV cache bytes that one token takes in all layers; see `layer_kv_bytes_per_token`."""
        return sum(self.layer_kv_bytes_per_token(layer, type_k, type_v) for layer in range(self.n_layer))


def _check_is_model(header: GGUFHeader) -> None:
    kind = str(header.metadata.get("general.type", "model"))
    if header.architecture == "clip":
        kind = "mmproj"
    if kind in _NOT_A_MODEL:
        raise invalid(header.path, f"is not a language model but {_NOT_A_MODEL[kind]}", "Open a model instead.")


def _heads(keys: Hparams, n_layer: int, is_recurrent: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    none = (0,) * n_layer
    n_head = keys.per_layer("attention.head_count", n_layer, MAX_HEADS, none)
    n_head_kv = keys.per_layer("attention.head_count_kv", n_layer, MAX_HEADS, n_head)
    if is_recurrent:
        return n_head, none
    architecture = printable(keys.header.architecture)
    if not any(n_head):
        raise invalid(keys.header.path, f"{architecture}.attention.head_count is 0 or missing; 1 is the least")
    for layer, (n_q, n_kv) in enumerate(zip(n_head, n_head_kv, strict=True)):
        if n_kv and n_q % n_kv:
            raise invalid(keys.header.path, f"layer {layer} has {n_q} query heads for {n_kv} key and value heads")
    return n_head, n_head_kv


def _experts(keys: Hparams) -> tuple[int, int]:
    n_expert = keys.number("expert_count", 0, MAX_EXPERTS, 0)
    n_used = keys.largest("expert_used_count", MAX_EXPERTS)
    if n_used > n_expert or (n_expert and not n_used):
        raise invalid(keys.header.path, f"uses {n_used} experts of {n_expert}")
    return n_expert, n_used


def _n_state(keys: Hparams, n_embd: int) -> int:
    """Return the numbers that a recurrent layer keeps of a sequence; 0 for a model without such layers.

    Source: llama-hparams.cpp, `n_embd_r` and `n_embd_s`: RWKV's token shifts and states, LFM2's convolutions, Mamba's
    both.
    """
    wkv_head_size = keys.number("wkv.head_size", 0, MAX_WIDTH, 0)
    if wkv_head_size:
        return n_embd * (keys.number("token_shift_count", 0, MAX_WIDTH, 2) + wkv_head_size)
    short_cache = keys.number("shortconv.l_cache", 0, MAX_WIDTH, 0)
    if short_cache:
        return n_embd * (short_cache - 1)
    n_inner, n_state = (keys.number(f"ssm.{name}_size", 0, MAX_WIDTH, 0) for name in ("inner", "state"))
    n_groups = keys.number("ssm.group_count", 0, MAX_WIDTH, 0)
    n_kept_columns = max(keys.number("ssm.conv_kernel", 0, MAX_WIDTH, 0) - 1, 0)
    return n_kept_columns * (n_inner + 2 * n_groups * n_state) + n_inner * n_state


def _n_ff_active(keys: Hparams, n_expert_used: int) -> int:
    n_ff = keys.largest("feed_forward_length", MAX_WIDTH)
    n_ff_expert = keys.largest("expert_feed_forward_length", MAX_WIDTH)
    return max(n_ff if n_ff_expert else n_ff * max(n_expert_used, 1), n_ff_expert * n_expert_used)


def _kv_widths(
    keys: Hparams, n_head_kv: tuple[int, ...], head_dim_k: int, head_dim_v: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the values per token in each layer's K and V cache; 0 where a layer keeps none."""
    n_layer = len(n_head_kv)
    swa = keys.flags("attention.sliding_window_pattern", n_layer) or (False,) * n_layer
    swa_k = keys.number("attention.key_length_swa", 0, MAX_WIDTH, head_dim_k)
    swa_v = keys.number("attention.value_length_swa", 0, MAX_WIDTH, head_dim_v)
    if keys.has("attention.key_length_mla"):
        # Latent attention keeps one compressed vector, from which both keys and values are computed.
        head_dim_v = swa_v = 0
    interval = keys.number("full_attention_interval", 1, MAX_LAYERS, 1)
    n_keeping = n_layer - keys.number("attention.shared_kv_layers", 0, n_layer, 0)
    heads = [n if layer < n_keeping and (layer + 1) % interval == 0 else 0 for layer, n in enumerate(n_head_kv)]
    width_k = tuple(n * (swa_k if window else head_dim_k) for n, window in zip(heads, swa, strict=True))
    width_v = tuple(n * (swa_v if window else head_dim_v) for n, window in zip(heads, swa, strict=True))
    return width_k, width_v


def _pooling(keys: Hparams) -> str | None:
    """Return the model's own pooling. A number that llama.cpp does not know is as good as none."""
    number = keys.header.metadata.get(f"{keys.header.architecture}.pooling_type")
    is_known = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(POOLINGS)
    return POOLINGS[number] if is_known else None  # type: ignore[index]


def _n_vocab(header: GGUFHeader, keys: Hparams) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, ArrayRef):
        return tokens.length
    return keys.number("vocab_size", 0, MAX_U32, 0)


def _cache_type(name: str, head_dim: int) -> GGMLType:
    entry = GGML_TYPES_BY_NAME.get(name)
    if entry is None:
        raise RequestError(f"No such KV cache type: {printable(name)}", hint="Use f16, q8_0 or q4_0.")
    if head_dim % entry.block_size:
        problem = f"KV cache type {name} has blocks of {entry.block_size}; this model's heads are {head_dim} wide"
        raise RequestError(problem, hint="Use f16.")
    return entry
