"""The demo model: what is known of SmolLM2's activations is found."""

from __future__ import annotations

import pytest

from localllm.workshop import CalibrationRequest, InspectRequest, inspect_file
from tests.demo_model import require_demo_model
from tests.workshop.watching import Watcher

pytestmark = pytest.mark.real


def test_outliers_are_found_and_blocks_of_32_hold_them() -> None:
    text = CalibrationRequest(n_chunks=2, n_ctx=128, gpu_layers=0, n_threads=1)
    found = inspect_file(require_demo_model(), InspectRequest(text), Watcher())
    by_kind = {one.kind: one for one in found.inputs}
    assert [channel.channel for channel in by_kind["attn_k attn_q attn_v"].outliers] == [247]
    massive = by_kind["ffn_down"]
    assert massive.max > 1000 * massive.rms and massive.outliers == ()
    for one in found.rounding:
        assert 0 < one.both < 0.03 and one.inputs < 0.7 * one.token_scale
