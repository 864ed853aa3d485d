"""BERT for tests: checkpoints in code or from a folder, written as GGUF, and computed in NumPy to compare with.

The NumPy pass takes the checkpoint under its own names, before anything was written, so it knows nothing of GGUF nor of
llama.cpp. The writer is for these tests: one architecture, F32 only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Checkpoint = dict[str, NDArray[np.float32]]
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POOLING = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}


@dataclass(frozen=True)
class BertConfig:
    """A checkpoint's numbers."""

    n_layer: int = 2
    n_embd: int = 32
    n_head: int = 2
    n_ff: int = 64
    n_ctx: int = 128
    epsilon: float = 1e-12


def tiny_vocabulary() -> list[str]:
    """Return a WordPiece vocabulary that spells every lower-case ASCII word and a few whole ones."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    digits, marks = [str(n) for n in range(10)], list(".,!?-")
    words = ["the", "hello", "world", "sky", "is", "blue", "why", "token"]
    return [*SPECIALS, *letters, *digits, *marks, *words, *(f"##{c}" for c in letters + digits), "##ing"]


def random_checkpoint(config: BertConfig, n_vocab: int, seed: int = 0, *, n_classes: int = 0) -> Checkpoint:
    """Return seeded random weights under the checkpoint's names; with classes, those of a reranker."""
    rng = np.random.default_rng(seed)
    n, shapes = config.n_embd, dict[str, tuple[int, ...]]()
    shapes["embeddings.word_embeddings.weight"] = (n_vocab, n)
    shapes["embeddings.position_embeddings.weight"] = (config.n_ctx, n)
    shapes["embeddings.token_type_embeddings.weight"] = (2, n)
    shapes |= {"embeddings.LayerNorm.weight": (n,), "embeddings.LayerNorm.bias": (n,)}
    for layer in range(config.n_layer):
        block = f"encoder.layer.{layer}."
        linears = {f"attention.self.{part}": (n, n) for part in ("query", "key", "value")}
        linears |= {"attention.output.dense": (n, n), "intermediate.dense": (config.n_ff, n)}
        linears |= {"output.dense": (n, config.n_ff)}
        for name, shape in linears.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{block}{name}.weight": (n,), f"{block}{name}.bias": (n,)}
    if n_classes:
        shapes |= {"pooler.dense.weight": (n, n), "pooler.dense.bias": (n,)}
        shapes |= {"classifier.weight": (n_classes, n), "classifier.bias": (n_classes,)}
    return {name: _random(rng, name, shape).astype(np.float32) for name, shape in shapes.items()}


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        return 0.1 * rng.standard_normal(shape) + (1.0 if name.endswith("LayerNorm.weight") else 0.0)
    scale = 1.0 if name.startswith("embeddings") else 2.0 / math.sqrt(shape[-1])
    return scale * rng.standard_normal(shape)


def read_checkpoint(folder: Path) -> tuple[Checkpoint, BertConfig, list[str]]:
    """Return the F32 weights, numbers and vocabulary of a checkpoint in a folder."""
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    weights: Checkpoint = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, end = entry["data_offsets"]
            weights[name] = np.frombuffer(raw[start + first : start + end], np.float32).reshape(entry["shape"])
    numbers = json.loads((folder / "config.json").read_text())
    config = BertConfig(
        n_layer=numbers["num_hidden_layers"],
        n_embd=numbers["hidden_size"],
        n_head=numbers["num_attention_heads"],
        n_ff=numbers["intermediate_size"],
        n_ctx=numbers["max_position_embeddings"],
        epsilon=numbers["layer_norm_eps"],
    )
    return weights, config, (folder / "vocab.txt").read_text().splitlines()


# GGUF.

_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "pooler.dense": "cls",
    "classifier": "cls.output",
}


def write_bert(
    path: Path,
    weights: Checkpoint,
    config: BertConfig,
    vocabulary: Sequence[str],
    *,
    pooling: str = "mean",
    name: str = "tiny-bert",
) -> Path:
    """Write a checkpoint as a GGUF file that llama.cpp loads."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(name)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.epsilon)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", POOLING[pooling])
    _add_vocabulary(writer, vocabulary)
    for full_name, weight in weights.items():
        tensor = _tensor_name(full_name)
        if tensor is not None:
            writer.add_tensor(tensor, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensor_name(full_name: str) -> str | None:
    module, _, kind = full_name.rpartition(".")
    block, layer = "", module.split(".")
    if module.startswith("encoder.layer."):
        block, module = f"blk.{layer[2]}.", ".".join(layer[3:])
    # Without a classifier, the pooler is what the checkpoint was pretrained with, and is not used.
    return f"{block}{_NAMES[module]}.{kind}" if module in _NAMES else None


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Sequence[str]) -> None:
    """Add a WordPiece vocabulary as llama.cpp wants it: a word's first piece is marked, not those that continue it."""
    kinds = [gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in vocabulary]
    writer.add_tokenizer_model("bert")
    writer.add_token_list([_marked(token) for token in vocabulary])
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    for token, add in zip(
        SPECIALS,
        (writer.add_pad_token_id, writer.add_unk_token_id, writer.add_bos_token_id, writer.add_sep_token_id,
         writer.add_mask_token_id),
        strict=True,
    ):  # fmt: skip
        add(list(vocabulary).index(token))


def _marked(token: str) -> str:
    if token in SPECIALS:
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


# NumPy.


def hidden_states(weights: Checkpoint, config: BertConfig, tokens: Sequence[int]) -> Array:
    """Return the last layer's output, [n_tokens, n_embd]. Source: Devlin et al. 2018, and Vaswani et al. 2017, 3.2."""
    x = weights["embeddings.word_embeddings.weight"][list(tokens)].astype(np.float64)
    x = x + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = _layer_norm(x, weights, "embeddings.LayerNorm", config)
    for layer in range(config.n_layer):
        block = f"encoder.layer.{layer}."
        attended = _linear(_attention(x, weights, block, config), weights, block + "attention.output.dense")
        x = _layer_norm(x + attended, weights, block + "attention.output.LayerNorm", config)
        widened = _gelu(_linear(x, weights, block + "intermediate.dense"))
        x = _layer_norm(
            x + _linear(widened, weights, block + "output.dense"), weights, block + "output.LayerNorm", config
        )
    return x


def pooled(hidden: Array, pooling: str) -> Array:
    """Return one vector for a text, [n_embd]."""
    return {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]


def score(weights: Checkpoint, config: BertConfig, tokens: Sequence[int]) -> float:
    """Return what a reranker says of a pair."""
    first = hidden_states(weights, config, tokens)[0]
    return float(_linear(np.tanh(_linear(first, weights, "pooler.dense")), weights, "classifier")[0])


def _attention(x: Array, weights: Checkpoint, block: str, config: BertConfig) -> Array:
    n_tokens, head_dim = len(x), config.n_embd // config.n_head
    q, k, v = (
        _linear(x, weights, f"{block}attention.self.{part}").reshape(n_tokens, config.n_head, head_dim)
        for part in ("query", "key", "value")
    )
    logits = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(head_dim)
    share = np.exp(logits - logits.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", share, v).reshape(n_tokens, config.n_embd)


def _linear(x: Array, weights: Checkpoint, name: str) -> Array:
    product: Array = x @ weights[name + ".weight"].astype(np.float64).T + weights[name + ".bias"]
    return product


def _layer_norm(x: Array, weights: Checkpoint, name: str, config: BertConfig) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + config.epsilon)
    out: Array = normed * weights[name + ".weight"] + weights[name + ".bias"]
    return out


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))
