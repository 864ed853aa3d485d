"""Drafts on SmolLM2: what differs from the tokens without is a near-tie that rounding decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localllm.engine import Engine
from localllm.hardware.types import LoadPlan, MemoryEstimate, SpecMode
from localllm.llama import Model
from tests.demo_model import require_demo_model
from tests.engine.driving import generate
from tests.engine.near_ties import greedy_difference

pytestmark = pytest.mark.real

MAX_DRIFT = 0.5
LINES = "\n".join(f"{n}. The ferry to island {n} leaves pier {n + 3} at noon." for n in range(1, 7))


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(require_demo_model()) as model:
        yield model


@pytest.mark.parametrize("mode", ["ngram", "lookahead"])
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_copying_is_drafted_and_comes_out_the_same(model: Model, kv_type: str, mode: SpecMode) -> None:
    text = f"<|im_start|>user\nRepeat this list word by word.\n{LINES}<|im_end|>\n<|im_start|>assistant\n"
    prompt = model.vocab.tokenize(text, add_special=True, parse_special=True)
    plan = LoadPlan("", 1024, 2, 0, kv_type, kv_type, 512, 512, 1, MemoryEstimate(0, 0, 0))
    engine = Engine(model, plan)
    try:
        off, on = (generate(engine, prompt, max_tokens=60, spec=spec, n_logprobs=20) for spec in ("off", mode))
    finally:
        engine.close()
    report = on.finish.usage.speculation
    assert report is not None and report.accepted >= 5
    difference = greedy_difference(off.token_events, on.token_events)
    assert difference is None or (difference.drift < MAX_DRIFT and difference.distance < MAX_DRIFT)
