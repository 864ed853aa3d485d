"""Rotary positions: old and new ways to write the same scaling, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.convert.config import Config
from localllm.convert.rope import Rope, read_rope
from localllm.errors import InvalidCheckpoint, UnsupportedModel

KINDS = ("linear", "llama3", "yarn", "longrope")
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def rope(config: dict[str, Any], **options: Any) -> Rope:
    return read_rope(Config(config), 64, 131072, KINDS, **options)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"rope_theta": 5e5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        ({}, {"rope_parameters": {"rope_theta": 10000.0}}),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
        ),
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 8}},
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 1e6},
                                 "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
        ),
        ({"partial_rotary_factor": 0.5}, {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
    ],
)  # fmt: skip
def test_old_and_new_files_say_the_same(old: dict[str, Any], new: dict[str, Any]) -> None:
    one, other = rope(old), rope(new)
    assert (one.base, one.kind, one.dim, one.n_ctx_original) == (
        other.base,
        other.kind,
        other.dim,
        other.n_ctx_original,
    )
    assert [t.name for t in one.tensors()] == [t.name for t in other.tensors()]


def test_llama3_leaves_short_waves_and_stretches_long_ones() -> None:
    found = rope({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}})
    (factors,) = (next(tensor.pieces()) for tensor in found.tensors())
    assert factors.shape == (32,) and list(factors[:8]) == [1.0] * 8 and list(factors[-8:]) == [8.0] * 8
    assert list(factors) == sorted(factors) and any(1.0 < factor < 8.0 for factor in factors)


def test_su_is_longrope_and_its_original_length_may_stand_outside() -> None:
    lists = {"long_factor": [1.0] * 32, "short_factor": [1] * 32}
    found = rope({"original_max_position_embeddings": 4096, "rope_scaling": {"type": "su", **lists}})
    assert (
        found.kind == "longrope" and found.factor == 32 and found.attention_factor == pytest.approx(1.1902380714238083)
    )


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "dynamic", "factor": 2},
        {"type": "yarn", "factor": 4, "mscale": 0.7},
        {"type": "yarn", "truncate": False},
    ],
)
def test_scaling_that_llama_cpp_does_not_compute_is_refused(scaling: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel):
        rope({"rope_scaling": scaling})


def test_factors_of_another_length_are_refused() -> None:
    found = rope({"rope_scaling": {"type": "longrope", "long_factor": [1.0] * 3, "short_factor": [1.0] * 32}})
    with pytest.raises(InvalidCheckpoint, match="must be 32 numbers and has 3"):
        list(found.tensors())
