"""Under `auto` lookahead comes after lookup, and only where wide batches are measured to be cheap."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.engine import Engine
from localllm.engine.speculation.lookahead import LookaheadStep
from localllm.engine.speculation.lookahead_planner import LookaheadPlanner
from localllm.engine.speculation.width_cost import WidthCost
from tests.engine.driving import STEADY_KV, EngineFactory, generate, prompt_of

FIELDS: dict[str, object] = {"max_tokens": 120, "ignore_eos": True, "cache_prompt": False}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[LookaheadStep]:
    """The lookahead steps that engines run from now on."""
    found: list[LookaheadStep] = []
    plan = LookaheadPlanner.plan

    def noted(self: LookaheadPlanner, *args: Any, **options: Any) -> dict[int, LookaheadStep]:
        planned = plan(self, *args, **options)
        found.extend(planned.values())
        return planned

    monkeypatch.setattr(LookaheadPlanner, "plan", noted)
    return found


def answer(engine: Engine) -> None:
    """Answer a few requests under auto, whose tokens must be those without."""
    for seed in range(4):
        prompt = prompt_of(100 + seed, 40)
        off = generate(engine, prompt, spec="off", **FIELDS)
        auto = generate(engine, prompt, spec="auto", **FIELDS)
        assert auto.tokens == off.tokens


def test_it_is_tried_where_width_seems_to_cost_nothing(
    make_engine: EngineFactory, windows: list[LookaheadStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WidthCost, "ratio", lambda self, width: 1.0 + 0.001 * (width - 1))
    engine = make_engine(kv_type=STEADY_KV)
    answer(engine)
    assert windows
    assert engine.stats().n_cells_used == engine.stats().n_sequence_ids_used == 0


def test_it_stays_off_where_width_costs_what_it_does_on_a_cpu(
    make_engine: EngineFactory, windows: list[LookaheadStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WidthCost, "ratio", lambda self, width: 1.0 + 0.6 * (width - 1))
    answer(make_engine(kv_type=STEADY_KV))
    assert not windows
