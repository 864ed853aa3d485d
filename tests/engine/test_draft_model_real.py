"""SmolLM2 with layers pruned drafts for SmolLM2: what differs from the tokens without is a near-tie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.hardware.types import LoadPlan, MemoryEstimate
from localllm.llama import Model, QuantizeParams, quantize_model
from tests.demo_model import require_demo_model
from tests.engine.driving import generate
from tests.engine.near_ties import greedy_difference

pytestmark = pytest.mark.real

MAX_DRIFT = 0.5
Q8_0 = 7
"""llama.cpp's number of the file type."""
PROMPTS = (
    "Count from one to twenty in words.",
    "Write the days of the week, each on its own line.",
    "What is the capital of France, and what is it known for?",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Model]]:
    """The demo model, and the same with layers left out."""
    source = require_demo_model()
    pruned = tmp_path_factory.mktemp("pruned") / "pruned.gguf"
    params = QuantizeParams(Q8_0, n_threads=1, allow_requantize=True, prune_layers=(20, 22, 24, 26))
    quantize_model(Path(source), pruned, params)
    with Model(source) as model, Model(pruned) as draft:
        assert draft.n_layer == model.n_layer - 4
        yield model, draft


@pytest.fixture(scope="module")
def engine(models: tuple[Model, Model]) -> Iterator[Engine]:
    model, draft = models
    plan = LoadPlan("", 1024, 2, 0, "q8_0", "q8_0", 512, 512, 1, MemoryEstimate(0, 0, 0))
    engine = Engine(model, plan, draft_model=draft)
    yield engine
    engine.close()


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), SamplingParams(temperature=0.7, top_k=20)])
@pytest.mark.parametrize("question", PROMPTS)
def test_pruned_model_drafts_and_greedy_text_is_the_same(
    engine: Engine, models: tuple[Model, Model], question: str, sampling: SamplingParams
) -> None:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = models[0].vocab.tokenize(text, add_special=True, parse_special=True)
    fields: dict[str, object] = {"max_tokens": 50, "n_logprobs": 20, "sampling": sampling}
    off, on = (generate(engine, prompt, spec=spec, **fields) for spec in ("off", "draft"))
    report = on.finish.usage.speculation
    assert report is not None and report.kind == "draft" and report.accepted > 0
    if sampling.temperature == 0:
        difference = greedy_difference(off.token_events, on.token_events)
        assert difference is None or (difference.drift < MAX_DRIFT and difference.distance < MAX_DRIFT)
