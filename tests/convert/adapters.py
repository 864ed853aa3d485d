"""LoRA adapters as PEFT saves them, random and written without PEFT, and what they make of a model's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.convert.safetensors import read_tensors
from tests.convert.checkpoints import safetensors_bytes

Weights = dict[str, NDArray[np.float32]]
RANK, ALPHA = 4, 6.0
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings")
TRANSPOSED = ("c_attn", "c_proj", "c_fc")
"""Modules of GPT-2 whose matrices are stored as [inputs, outputs]."""


def adapter_config(**changes: object) -> dict[str, Any]:
    """Return an adapter_config.json as PEFT writes it."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "someone/some-model",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "layer_replication": None,
        "init_lora_weights": True,
        "rank_pattern": {},
        "alpha_pattern": {},
        **changes,
    }


def shape_of(module: str, stored: tuple[int, ...]) -> tuple[int, int]:
    """Return the inputs and outputs of a module whose weight is stored with a shape."""
    first, second = stored
    straight = module.endswith(EMBEDDINGS) or module.endswith(TRANSPOSED)
    return (first, second) if straight else (second, first)


def random_halves(
    modules: Mapping[str, tuple[int, int]], ranks: Mapping[str, int] | None = None, seed: int = 0
) -> Weights:
    """Return random halves for modules of these inputs and outputs, under PEFT's names."""
    rng = np.random.default_rng(seed)
    halves: Weights = {}
    for module, (n_in, n_out) in modules.items():
        rank = (ranks or {}).get(module, RANK)
        a, b = ".lora_A.weight", ".lora_B.weight"
        if module.endswith(EMBEDDINGS):
            a, b = ".lora_embedding_A", ".lora_embedding_B"
        halves[f"base_model.model.{module}{a}"] = random(rng, rank, n_in)
        halves[f"base_model.model.{module}{b}"] = random(rng, n_out, rank)
    return halves


def random(rng: np.random.Generator, n_rows: int, n_cols: int) -> NDArray[np.float32]:
    return (rng.standard_normal((n_rows, n_cols)) * n_cols**-0.5).astype(np.float32)


def write_adapter(folder: Path, halves: Mapping[str, NDArray[Any]], **config: object) -> Path:
    """Write an adapter into a new folder."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config(**config)))
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(halves))
    return folder


def merge(folder: Path, halves: Weights, scales: Mapping[str, float]) -> None:
    """Add scale · B A to the weights of a checkpoint, as PEFT's merge_and_unload does."""
    path = folder / "model.safetensors"
    weights = {name: tensor.read() for name, tensor in read_tensors(path).items()}
    for module, scale in scales.items():
        start = f"base_model.model.{module}"
        if module.endswith(EMBEDDINGS):
            a, b = halves[f"{start}.lora_embedding_A"], halves[f"{start}.lora_embedding_B"]
        else:
            a, b = halves[f"{start}.lora_A.weight"], halves[f"{start}.lora_B.weight"]
        delta = np.float32(scale) * (b @ a)
        turned = module.endswith(EMBEDDINGS) or module.endswith(TRANSPOSED)
        weights[f"{module}.weight"] += delta.T if turned else delta
    path.write_bytes(safetensors_bytes(weights))
