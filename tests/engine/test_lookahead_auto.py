"""Under `auto` lookahead comes after lookup, and only where wide batches are measured to be cheap."""

from __future__ import annotations

import pytest

from localllm.engine import Engine
from localllm.engine.speculation.width_cost import WidthCost
from tests.engine.driving import EngineFactory, generate, prompt_of
from tests.engine.test_engine import STEADY_KV

FIELDS: dict[str, object] = {"max_tokens": 120, "ignore_eos": True, "cache_prompt": False}


def kinds(engine: Engine) -> set[str]:
    """Return the kinds of speculation of a few requests under auto, whose tokens must be those without."""
    found = set()
    for seed in range(4):
        prompt = prompt_of(100 + seed, 40)
        off = generate(engine, prompt, spec="off", **FIELDS)
        auto = generate(engine, prompt, spec="auto", **FIELDS)
        assert auto.tokens == off.tokens
        report = auto.finish.usage.speculation
        assert report is not None
        found.add(report.kind)
    return found


def test_it_is_tried_where_width_seems_to_cost_nothing(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WidthCost, "ratio", lambda self, width: 1.0 + 0.001 * (width - 1))
    engine = make_engine(kv_type=STEADY_KV)
    assert "ngram+lookahead" in kinds(engine)
    assert engine.stats().n_cells_used == engine.stats().n_sequence_ids_used == 0


def test_it_stays_off_where_width_costs_what_it_does_on_a_cpu(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WidthCost, "ratio", lambda self, width: 1.0 + 0.6 * (width - 1))
    assert kinds(make_engine(kv_type=STEADY_KV)) == {"ngram"}
