"""What a model of the catalog would take, by the catalog's numbers."""

from __future__ import annotations

import pytest

from localllm.hardware.sizes import GIB
from localllm.hardware.types import LoadOptions
from localllm.hub.catalog import shipped_catalog
from localllm.runtime import catalog_plan
from localllm.runtime.catalog_plan import entry_shape, plan_entry

OPTIONS = LoadOptions(n_slots=1, gpu_layers=0)


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_plan, "available_ram_bytes", lambda: 8 * GIB)


@pytest.mark.usefixtures("free_bytes")
def test_every_entry_is_planned_or_known_too_little_of() -> None:
    for entry in shipped_catalog().entries.values():
        n_bytes = entry.n_bytes() or 0
        prospect = plan_entry(entry, n_bytes, OPTIONS)
        if prospect is not None:
            assert (prospect.chosen is None) == (prospect.refusal is not None)
            assert (prospect.chosen is not None) == (n_bytes < 7 * GIB) or 5 * GIB < n_bytes < 8 * GIB


@pytest.mark.usefixtures("free_bytes")
def test_weights_and_kv_are_as_the_catalog_says() -> None:
    entry = shipped_catalog().entries["qwen3-8b"]
    prospect = plan_entry(entry, 4 * GIB, LoadOptions(n_slots=1, gpu_layers=0, n_ctx=8192))
    assert prospect is not None and prospect.chosen is not None
    estimate = prospect.chosen.estimate
    assert entry.n_layers and entry.n_kv_heads and entry.head_dim
    assert estimate.kv_bytes == 8192 * entry.n_layers * entry.n_kv_heads * entry.head_dim * 2 * 2
    assert 3.9 * GIB < estimate.weights_bytes < 4.1 * GIB


@pytest.mark.usefixtures("free_bytes")
def test_what_does_not_fit_as_asked_may_fit_otherwise() -> None:
    entry = shipped_catalog().entries["qwen3-8b"]
    wide = LoadOptions(n_slots=1, gpu_layers=0, n_ctx=32768)
    prospect = plan_entry(entry, entry.n_bytes() or 0, wide)
    assert prospect is not None and prospect.chosen is None
    assert any("q8_0" in other.flags or "--n-ctx" in other.flags for other in prospect.others)


def test_an_entry_without_layers_has_no_shape() -> None:
    entry = shipped_catalog().entries["qwen3.5-0.8b"]
    assert entry_shape(entry, 1000) is None
