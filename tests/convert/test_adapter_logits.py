"""Adapters of many families: llama.cpp with the converted adapter, and transformers with the adapter merged in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localllm.convert import convert, convert_adapter
from localllm.convert.safetensors import read_tensors
from localllm.convert.tensors import copied
from localllm.gguf import check_adapter, read_header
from tests.convert.adapters import ALPHA, RANK, merge, random_halves, shape_of, write_adapter
from tests.convert.logits import logits_with

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.convert.zoo import DECODERS, Case, save  # noqa: E402

TOKENS = np.random.default_rng(1).integers(0, 260, 40).tolist()
TOLERANCE = 1e-4
"""Largest difference of logits over the largest logit; 2e-5 was measured, and 7e-4 where the model has a GELU."""
LINEAR = r"(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class Adapted:
    """What to adapt of a model of the zoo, and how."""

    model: str
    modules: str = LINEAR
    """A regular expression that their last parts match."""
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return self.name or self.model


CASES = (
    Adapted("llama-2"),
    Adapted("llama-3"),
    Adapted("llama-tied"),
    Adapted("llama-3", r"embed_tokens|lm_head|q_proj", name="embedding and output"),
    Adapted("llama-3", config={"use_rslora": True}, name="rslora"),
    Adapted(
        "llama-3",
        config={
            "rank_pattern": {r"0\.self_attn\.k_proj": 8, "down_proj": 2},
            "alpha_pattern": {r"^model.*v_proj": 12, "up_proj": 0},
        },
        name="patterns",
    ),
    Adapted(
        "llama-3", config={"use_rslora": True, "rank_pattern": {"q_proj": 9}, "alpha_pattern": {"q_proj": 1}},
        name="rslora and patterns",
    ),
    Adapted("mistral"),
    Adapted("qwen2"),
    Adapted("qwen3"),
    Adapted("smollm3"),
    Adapted("gemma-2"),
    Adapted("gemma-3"),
    Adapted("phi-3", r"qkv_proj|o_proj|gate_up_proj|down_proj"),
    Adapted("gpt-2", r"c_attn|c_proj|c_fc", {"fan_in_fan_out": True}),
    Adapted("mixtral", r"[qk]_proj|w[123]"),
    Adapted("qwen3-moe", LINEAR + r"|gate"),
)  # fmt: skip


def case_of(name: str) -> Case:
    return next(case for case in DECODERS if case.name == name)


def modules_of(folder: Path, pattern: str) -> dict[str, tuple[int, int]]:
    """Return the inputs and outputs of all matrices whose module's last part matches."""
    found = {}
    for name, tensor in read_tensors(folder / "model.safetensors").items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and re.fullmatch(pattern, module.rpartition(".")[2]):
            found[module] = shape_of(module, tensor.shape)
    return found


def of_pattern(patterns: dict[str, Any], module: str, default: float) -> float:
    """Look a module up as PEFT does."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def adapted(case: Adapted, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return llama.cpp's logits with the adapter, transformers' with it merged in, and transformers' without."""
    plain = save(case_of(case.model), folder / "model")
    convert(folder / "model", folder / "model.gguf", "f32")
    modules = modules_of(folder / "model", case.modules)
    ranks = {name: int(of_pattern(case.config.get("rank_pattern", {}), name, RANK)) for name in modules}
    halves = random_halves(modules, ranks)
    write_adapter(folder / "adapter", halves, **case.config)
    made = convert_adapter(folder / "adapter", folder / "adapter.gguf", folder / "model.gguf")
    assert made.n_params == sum(half.size for half in halves.values())
    convert_adapter(folder / "adapter", folder / "same.gguf", folder / "model")
    assert (folder / "same.gguf").read_bytes() == (folder / "adapter.gguf").read_bytes()
    check_adapter(
        read_header(folder / "adapter.gguf"), read_header(folder / "model.gguf"), plain.config.num_hidden_layers
    )
    found = logits_with(folder / "model.gguf", TOKENS, folder / "adapter.gguf")
    scales = {}
    for name, rank in ranks.items():
        alpha = of_pattern(case.config.get("alpha_pattern", {}), name, ALPHA)
        scales[name] = alpha / (sqrt(rank) if case.config.get("use_rslora") else rank)
    merge(folder / "model", halves, scales)
    merged = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="eager").eval()
    with torch.no_grad():
        expected, without = (one(torch.tensor([TOKENS])).logits[0].float().numpy() for one in (merged, plain))
    return found, expected, without


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_logits_are_those_of_the_merged_model(tmp_path: Path, case: Adapted) -> None:
    found, expected, without = adapted(case, tmp_path)
    largest, of_model = np.abs(expected).max(), case_of(case.model).tolerance
    assert np.abs(found - expected).max() <= max(TOLERANCE, of_model) * largest
    assert np.abs(without - expected).max() > 0.5 * largest, "the adapter changes what the model says"


MUTANTS = (
    ("llama-3", "changed", lambda name, tensor, _change, _shape: copied(name, tensor)),
    ("patterns", "_scaled", lambda b, *_: b),
)


@pytest.mark.parametrize(("case_id", "target", "wrong"), MUTANTS, ids=["order of rows", "alpha"])
def test_wrong_rule_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case_id: str, target: str, wrong: object
) -> None:
    monkeypatch.setattr(f"localllm.convert.adapter.{target}", wrong)
    found, expected, _ = adapted(next(case for case in CASES if case.id == case_id), tmp_path)
    assert np.abs(found - expected).max() > 5 * TOLERANCE * np.abs(expected).max()
