"""Every family of decoders that is known: folded at random, it computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.convert import convert
from localllm.gguf import read_header
from localllm.quantize.awq import plan_folds
from tests.convert.logits import logits_with
from tests.llama.running import difference
from tests.quantize.awq.at_random import fold_at_random

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.convert.zoo import DECODERS, Case, save

TOKENS = np.random.default_rng(1).integers(0, 260, 40).tolist()
NOT_FOLDED = {"gpt-2": {"ffn_up"}}
"""Folds that a family lacks: GPT-2's GELU stands between up and down."""


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
def test_logits_stay(tmp_path: Path, case: Case) -> None:
    save(case, tmp_path / case.name)
    source = convert(tmp_path / case.name, tmp_path / "source.gguf", "f32").path
    plan = plan_folds(read_header(source))
    assert plan.reason is None
    kinds = {fold.name.split(".")[2].removesuffix("_exps") for fold in plan.folds}
    assert kinds == {"attn_norm", "attn_v", "ffn_norm", "ffn_up"} - NOT_FOLDED.get(case.name, set())
    folded = fold_at_random(source, tmp_path / "folded.gguf")
    assert difference(logits_with(folded, TOKENS), logits_with(source, TOKENS)) <= 2 * case.tolerance
