"""A fold changes nothing that a model computes, and a wrong one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.gguf import read_header
from localllm.quantize.awq import Fold, plan_folds
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.convert.logits import logits_with
from tests.llama.running import difference
from tests.quantize.awq.at_random import fold_at_random
from tests.tiny_model import write_tiny_model

TOKENS = np.random.default_rng(1).integers(0, 260, 40).tolist()
EXACT, GELU = 1e-5, 2e-3
"""Allowed difference over the largest logit; llama.cpp's GELU on a CPU is a table of 16-bit numbers."""
WRONG = 2e-2
GQA = {"n_head": 4, "n_head_kv": 2}
WINDOW = {"gemma3.attention.sliding_window": 64}

Write = Callable[[Path], Path]
MODELS: dict[str, tuple[Write, float, int]] = {
    "llama": (lambda path: write_tiny_model(path, **GQA), EXACT, 4),
    "one KV head": (lambda path: write_tiny_model(path, n_head=4, n_head_kv=1), EXACT, 4),
    "wide heads": (lambda path: write_tiny_model(path, **GQA, head_dim=32), EXACT, 4),
    "qwen2, biases": (lambda path: write_tiny_model(path, arch="qwen2", **GQA), EXACT, 4),
    "qwen3, norms of q and k": (lambda path: write_tiny_model(path, arch="qwen3", **GQA), EXACT, 4),
    "gemma3, norms after": (lambda path: write_tiny_model(path, arch="gemma3", extra=WINDOW, **GQA), GELU, 4),
    "experts": (write_tiny_moe, EXACT, 4),
    "experts, one shared": (lambda path: write_tiny_moe(path, is_shared=True), EXACT, 5),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_stay(tmp_path: Path, name: str) -> None:
    write, tolerance, n_folds = MODELS[name]
    source = write(tmp_path / "source.gguf")
    plan = plan_folds(read_header(source))
    assert plan.reason is None and len(plan.folds) == 2 * n_folds
    folded = fold_at_random(source, tmp_path / "folded.gguf")
    assert difference(logits_with(folded, TOKENS), logits_with(source, TOKENS)) <= tolerance
    assert folded.read_bytes() != source.read_bytes()


def heads_in_turn(fold: Fold) -> Fold:
    """As if query heads were dealt out to KV heads in turn, and did not follow each other."""
    (reader,) = fold.readers
    n_columns = len(reader.channels)
    in_turn = np.tile(np.arange(fold.n_channels), n_columns // fold.n_channels)
    return replace(fold, readers=(replace(reader, channels=in_turn),))


def without(side: str, tensor: str) -> Callable[[Fold], Fold]:
    """Forget one tensor."""

    def forget(fold: Fold) -> Fold:
        parts = tuple(part for part in getattr(fold, side) if not part.tensor.endswith(tensor))
        assert len(parts) < len(getattr(fold, side))
        return replace(fold, **{side: parts})

    return forget


def one_set(fold: Fold) -> Fold:
    """As if experts made the same channels."""
    shared = replace(fold.writers[0], channels=np.zeros_like(fold.writers[0].channels))
    return replace(fold, writers=(shared,))


MISTAKES: dict[str, tuple[str, str, Callable[[Fold], Fold]]] = {
    "heads in another order": ("llama", "attn_v", heads_in_turn),
    "v's bias forgotten": ("qwen2, biases", "attn_v", without("writers", "attn_v.bias")),
    "k forgotten": ("llama", "attn_norm", without("readers", "attn_k.weight")),
    "the norm forgotten": ("gemma3, norms after", "ffn_norm", without("writers", "ffn_norm.weight")),
    "the router forgotten": ("experts", "ffn_norm", without("readers", "ffn_gate_inp.weight")),
    "the shared gate forgotten": ("experts, one shared", "ffn_norm", without("readers", "ffn_gate_inp_shexp.weight")),
    "up's rows mixed up": ("experts", "ffn_up_exps", one_set),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_fold_is_found_out(tmp_path: Path, mistake: str) -> None:
    model, name, spoil = MISTAKES[mistake]
    source = MODELS[model][0](tmp_path / "source.gguf")
    folds = [fold for fold in plan_folds(read_header(source)).folds if fold.name.endswith(f".{name}")]
    expected = logits_with(source, TOKENS)
    assert difference(logits_with(fold_at_random(source, tmp_path / "right.gguf", folds), TOKENS), expected) < GELU
    wrong = fold_at_random(source, tmp_path / "wrong.gguf", [spoil(fold) for fold in folds])
    assert difference(logits_with(wrong, TOKENS), expected) > WRONG


def test_rows_in_parts_are_scaled_as_in_one(tmp_path: Path) -> None:
    source = write_tiny_moe(tmp_path / "source.gguf")
    whole = fold_at_random(source, tmp_path / "whole.gguf", slab_bytes=1 << 28)
    parts = fold_at_random(source, tmp_path / "parts.gguf", slab_bytes=700)
    assert whole.read_bytes() == parts.read_bytes()
