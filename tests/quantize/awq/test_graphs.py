"""Which folds are found, and which are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.errors import InvalidModelFile
from localllm.gguf import read_header
from localllm.quantize.awq import Fold, FoldPlan, plan_folds
from tests.quantize.skeleton import Skeleton
from tests.tiny_model import write_tiny_model


def plan_of(path: Path) -> FoldPlan:
    return plan_folds(read_header(path))


def of_layer(plan: FoldPlan, layer: int) -> dict[str, Fold]:
    place = f"blk.{layer}."
    return {fold.name.removeprefix(place): fold for fold in plan.folds if fold.name.startswith(place)}


def test_folds_of_a_layer(tmp_path: Path) -> None:
    found = of_layer(plan_of(write_tiny_model(tmp_path / "m.gguf", arch="qwen2", n_head=4, n_head_kv=2)), 1)
    sides = {
        name: ([part.tensor[6:] for part in fold.readers], [part.tensor[6:] for part in fold.writers])
        for name, fold in found.items()
    }
    assert sides == {
        "attn_norm": (["attn_q.weight", "attn_k.weight", "attn_v.weight"], ["attn_norm.weight"]),
        "attn_v": (["attn_output.weight"], ["attn_v.weight", "attn_v.bias"]),
        "ffn_norm": (["ffn_gate.weight", "ffn_up.weight"], ["ffn_norm.weight"]),
        "ffn_up": (["ffn_down.weight"], ["ffn_up.weight"]),
    }
    heads = found["attn_v"].readers[0].channels.reshape(4, 16)
    assert np.array_equal(heads[0], heads[1]) and np.array_equal(heads[2], heads[3])
    assert not np.intersect1d(heads[0], heads[2]).size and found["attn_v"].n_channels == 32


def test_the_output_layer_is_never_folded(tmp_path: Path) -> None:
    plan = plan_of(write_tiny_model(tmp_path / "m.gguf"))
    touched = {part.tensor for fold in plan.folds for part in (*fold.readers, *fold.writers)}
    assert touched.isdisjoint({"output.weight", "output_norm.weight", "token_embd.weight"})


@pytest.mark.parametrize("arch", ["falcon", "command-r", "phi2", "bert", "olmo2", "llama4"])
def test_graphs_that_are_not_known_are_left_alone(tmp_path: Path, arch: str) -> None:
    plan = plan_of(Skeleton(arch=arch).write(tmp_path / "m.gguf"))
    assert not plan.folds and plan.reason is not None and arch in plan.reason


@pytest.mark.parametrize("strange", ["attn_sinks.weight", "ffn_up.scale", "attn_norm_2.weight", "ffn_gate.0.weight"])
def test_a_layer_with_something_unknown_is_left_alone(tmp_path: Path, strange: str) -> None:
    header = read_header(write_tiny_model(tmp_path / "m.gguf"))
    plan = plan_folds(replace(header, tensors=(*header.tensors, replace(header.tensors[0], name=f"blk.1.{strange}"))))
    assert len(of_layer(plan, 0)) == 4 and not of_layer(plan, 1)
    assert plan.reason is not None and strange in plan.reason


def test_no_fold_through_an_activation(tmp_path: Path) -> None:
    header = read_header(write_tiny_model(tmp_path / "m.gguf"))
    without = replace(header, tensors=tuple(t for t in header.tensors if not t.name.endswith("ffn_gate.weight")))
    assert set(of_layer(plan_folds(without), 0)) == {"attn_norm", "attn_v", "ffn_norm"}


def test_tensors_that_do_not_fit_the_models_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelFile, match=r"blk\.0\.\w+\.weight.* where .* are due"):
        plan_of(Skeleton().write(tmp_path / "m.gguf"))
