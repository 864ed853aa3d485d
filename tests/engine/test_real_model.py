"""The engine on SmolLM2: isolation and a full cache, with every difference explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from localllm.chat.grammar import GrammarCompiler
from localllm.engine import Engine, SamplingParams, TokenEvent
from localllm.hardware.types import LoadPlan, MemoryEstimate
from localllm.llama import Model
from localllm.runtime.vocab_view import ModelVocab
from tests.demo_model import require_demo_model
from tests.engine.driving import GREEDY, Outcome, generate, submit
from tests.engine.near_ties import Difference, greedy_difference, sampled_difference

pytestmark = pytest.mark.real

TOPICS = ["the sea", "a lighthouse", "two brothers", "an old clock", "winter", "bread", "a train", "the moon"]
SCHEMA = '{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"]}'


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(require_demo_model()) as model:
        yield model


@pytest.fixture(scope="module")
def make_engine(model: Model) -> Iterator[Callable[[int], Engine]]:
    engines = []

    def make(n_ctx: int) -> Engine:
        plan = LoadPlan("", n_ctx, 8, 0, "f16", "f16", 512, 512, 2, MemoryEstimate(0, 0, 0), spec="off")
        engines.append(Engine(model, plan))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def ask(model: Model, text: str) -> list[int]:
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return model.vocab.tokenize(prompt, add_special=True, parse_special=True)


def company(engine: Engine, model: Model, n: int) -> list[Outcome]:
    """Start seven other requests, each with settings of its own: a bias, a grammar, penalties, mirostat…"""
    constraint = GrammarCompiler(ModelVocab(model.vocab)).compile("json_schema", SCHEMA)
    settings: list[dict[str, object]] = [
        {"sampling": SamplingParams(temperature=0, logit_bias={198: 4.0})},
        {"sampling": SamplingParams(seed=1), "constraint": constraint},
        {"sampling": SamplingParams(seed=2, repeat_penalty=1.3, frequency_penalty=0.4)},
        {"sampling": SamplingParams(seed=3, presence_penalty=0.9, dry_multiplier=0.8)},
        {"sampling": SamplingParams(seed=4, mirostat=2)},
        {"sampling": SamplingParams(seed=5, xtc_probability=0.5, typical_p=0.8)},
        {"sampling": GREEDY},
    ]
    return [
        submit(
            engine, ask(model, f"Write about {topic}."), max_tokens=n, ignore_eos="constraint" not in fields, **fields
        )[1]
        for topic, fields in zip(TOPICS, settings, strict=False)
    ]


def both_ways(
    engine: Engine, model: Model, topic: str, sampling: SamplingParams
) -> tuple[list[TokenEvent], list[TokenEvent]]:
    fields = {"max_tokens": 40, "sampling": sampling, "n_logprobs": 20, "cache_prompt": False}
    prompt = ask(model, f"Tell me a story of {topic}.")
    alone = generate(engine, prompt, **fields)
    others = company(engine, model, 60)
    among = generate(engine, prompt, **fields)
    for other in others:
        assert other.wait().finish.reason in ("length", "stop")
    return alone.token_events, among.token_events


@pytest.mark.parametrize("topic", TOPICS[:3])
def test_greedy_request_is_isolated_but_for_near_ties(
    make_engine: Callable[[int], Engine], model: Model, topic: str, record_property: Callable[[str, object], None]
) -> None:
    difference = greedy_difference(*both_ways(make_engine(4096), model, topic, GREEDY))
    if difference is not None:
        record_property("difference", str(difference))
        assert difference.distance <= 2 * difference.drift < 1.0


@pytest.mark.parametrize("topic", TOPICS[:3])
def test_sampled_request_is_isolated_but_for_near_ties(
    make_engine: Callable[[int], Engine], model: Model, topic: str, record_property: Callable[[str, object], None]
) -> None:
    sampling = SamplingParams(temperature=0.8, top_k=20, top_p=1.0, min_p=0.0, seed=11)
    difference = sampled_difference(*both_ways(make_engine(4096), model, topic, sampling), seed=11, temperature=0.8)
    if difference is not None:
        record_property("difference", str(difference))
        assert difference.distance < 0.05 and difference.drift < 0.5


def test_eight_requests_that_need_twice_the_cells_all_finish_with_the_right_tokens(
    make_engine: Callable[[int], Engine], model: Model, record_property: Callable[[str, object], None]
) -> None:
    roomy, tight = make_engine(4096), make_engine(1024)
    filler = "Mind the details of the place, the weather, the people and what they say to each other. " * 5
    prompts = [ask(model, f"{filler}Write about {topic}.") for topic in TOPICS]
    fields = {"max_tokens": 2048 // 8 - len(prompts[0]), "ignore_eos": True, "n_logprobs": 20, "cache_prompt": False}
    assert sum(len(p) + int(fields["max_tokens"]) for p in prompts) >= 2 * tight.n_cells - 64
    outcomes = [submit(tight, p, **fields)[1] for p in prompts]
    differences: list[Difference | None] = []
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        assert outcome.wait().finish.reason == "length"
        assert len(outcome.tokens) == fields["max_tokens"]
        differences.append(greedy_difference(generate(roomy, prompt, **fields).token_events, outcome.token_events))
    record_property("differences", str(differences))
    assert all(d is None or d.distance <= 2 * d.drift < 1.0 for d in differences)
    stats = tight.stats()
    assert stats.n_preemptions > 0
    assert stats.n_cells_used_max <= tight.n_cells
