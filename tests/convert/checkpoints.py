"""Checkpoints in code: a tiny Llama as transformers would save it, written without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.tiny_model import CHATML, MERGES, SPECIALS, vocabulary

Weights = Mapping[str, NDArray[Any]]
N_EMBD, N_HEAD, N_HEAD_KV, N_FF, N_LAYER = 64, 4, 2, 96, 2
_DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "uint16": "BF16"}


def safetensors_bytes(weights: Weights, dtypes: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file; uint16 arrays are bf16 unless `dtypes` says otherwise."""
    header, data = {}, b""
    for name, array in weights.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = (dtypes or {}).get(name, _DTYPES[str(array.dtype)])
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return framed(header, data)


def framed(header: object, data: bytes = b"") -> bytes:
    """Return a file of this header and these bytes, whatever they are."""
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 numbers: bf16, cut off."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def llama_config(**changes: object) -> dict[str, Any]:
    """Return the config.json of the tiny Llama."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_hidden_layers": N_LAYER,
        "num_attention_heads": N_HEAD,
        "num_key_value_heads": N_HEAD_KV,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "vocab_size": len(vocabulary()),
        **changes,
    }


def llama_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return seeded random weights, norms too, under transformers' names."""
    rng = np.random.default_rng(seed)
    head_dim = N_EMBD // N_HEAD
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (len(vocabulary()), N_EMBD)}
    for layer in range(N_LAYER):
        block = f"model.layers.{layer}."
        shapes |= {
            f"{block}input_layernorm.weight": (N_EMBD,),
            f"{block}self_attn.q_proj.weight": (N_EMBD, N_EMBD),
            f"{block}self_attn.k_proj.weight": (N_HEAD_KV * head_dim, N_EMBD),
            f"{block}self_attn.v_proj.weight": (N_HEAD_KV * head_dim, N_EMBD),
            f"{block}self_attn.o_proj.weight": (N_EMBD, N_EMBD),
            f"{block}post_attention_layernorm.weight": (N_EMBD,),
            f"{block}mlp.gate_proj.weight": (N_FF, N_EMBD),
            f"{block}mlp.up_proj.weight": (N_FF, N_EMBD),
            f"{block}mlp.down_proj.weight": (N_EMBD, N_FF),
        }
    shapes |= {"model.norm.weight": (N_EMBD,), "lm_head.weight": (len(vocabulary()), N_EMBD)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def byte_tokenizer(**changes: object) -> dict[str, Any]:
    """Return the tokenizer.json of the tiny vocabulary: byte-level BPE as GPT-2 has it."""
    tokens = vocabulary()
    added = [
        {"id": tokens.index(text), "content": text, "special": True, "normalized": False, "lstrip": False,
         "rstrip": False, "single_word": False}
        for text in SPECIALS
    ]  # fmt: skip
    plain = {token: id for id, token in enumerate(tokens) if token not in SPECIALS}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": plain, "merges": list(MERGES), "byte_fallback": False},
        **changes,
    }


def write_tokenizer(folder: Path, **changes: object) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer(**changes)))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "chat_template": CHATML})
    )


def write_llama(folder: Path, *, weights: Weights | None = None, **config: object) -> Path:
    """Write the tiny Llama into a new folder: one file, float32."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(llama_config(**config)))
    write_tokenizer(folder)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(llama_weights() if weights is None else weights))
    return folder


def write_sharded_llama(folder: Path, n_shards: int = 3) -> Path:
    """Write the tiny Llama in several files with an index."""
    write_llama(folder)
    (folder / "model.safetensors").unlink()
    names, weights = list(llama_weights()), llama_weights()
    weight_map = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = {name: weights[name] for name in names[shard::n_shards]}
        (folder / file).write_bytes(safetensors_bytes(part))
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
