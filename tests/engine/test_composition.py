"""Everything with everything: drafter, KV type, context policy, grammar, LoRA and seed, in one batch with all others.

docs/composition.md says the same as a page.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localllm.engine import Engine
from localllm.llama import LoraAdapter, Model
from tests.engine.drafting import LOGIT_DRIFT, Cycle, accepted, loops, repeating
from tests.engine.driving import GREEDY, EngineFactory, Outcome, generate, submit
from tests.engine.near_ties import greedy_difference
from tests.tiny_adapter import pair, write_tiny_adapter
from tests.tiny_model import write_tiny_model

N_CTX = 256
N_TOKENS = 300
DRAFTERS = ("off", "auto", "ngram", "lookahead", "draft")
POLICIES = ("error", "shift", "sinks")
LORA_SETS: tuple[tuple[tuple[int, float], ...], ...] = ((), ((0, 1.0),))
SEEDS = (None, 7)
KV_TYPES = ("f16", "q8_0", "q4_0")
STEADY_KV_TYPES = ("q8_0", "q4_0")
"""In which the width of a batch, and where cells lie, does not change a bit."""


@dataclass(frozen=True)
class Way:
    """How a request is answered, but for its drafter."""

    policy: str
    has_grammar: bool
    lora: tuple[tuple[int, float], ...]
    seed: int | None
    """None is greedy."""

    def fields(self, spec: str) -> dict[str, object]:
        return {
            "max_tokens": N_TOKENS,
            "ignore_eos": True,
            "context_policy": self.policy,
            "lora": self.lora,
            "sampling": GREEDY if self.seed is None else loops(self.seed),
            "constraint": Cycle() if self.has_grammar else None,
            "spec": spec,
            "n_logprobs": 20,
        }


WAYS = [Way(*axes) for axes in itertools.product(POLICIES, (False, True), LORA_SETS, SEEDS)]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A tiny model that was trained on a short context, so that many sequences can fill theirs at once."""
    path = write_tiny_model(tmp_path_factory.mktemp("composition") / "short.gguf", n_ctx=N_CTX, n_embd=128)
    with Model(Path(path)) as model:
        yield model


@pytest.fixture(scope="module")
def adapter(short: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoraAdapter]:
    shapes = {f"blk.{layer}.ffn_down.weight": pair(128, 128, 4) for layer in range(2)}
    path = write_tiny_adapter(tmp_path_factory.mktemp("composition") / "adapter.gguf", shapes=shapes)
    adapter = LoraAdapter(short, path)
    yield adapter
    adapter.close()


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_everything_with_everything(
    make_engine: EngineFactory, short: Model, adapter: LoraAdapter, kv_type: str
) -> None:
    """Each way alone and without drafts, then all ways with all drafters at once: every token is the same.

    With an f16 cache, greedy tokens are the same up to a near-tie.
    """
    engine = make_engine(model=short, n_ctx=8 * N_CTX, kv_type=kv_type, adapters=[(adapter, 0.0)], draft_model=short)
    alone = {way: generate(engine, repeating(i, 12), **way.fields("off")) for i, way in enumerate(WAYS)}
    together = {
        (way, spec): submit(engine, repeating(i, 12), **way.fields(spec))[1]
        for spec in DRAFTERS
        for i, way in enumerate(WAYS)
    }
    for (way, spec), outcome in together.items():
        expected = alone[way]
        _check_tokens(expected, outcome.wait(), way, spec, is_steady=kv_type in STEADY_KV_TYPES)
        assert outcome.finish.cause == expected.finish.cause == _cause(way)
        assert outcome.finish.usage.evicted_tokens == expected.finish.usage.evicted_tokens
        assert (outcome.finish.usage.evicted_tokens > 0) == (way.policy != "error")
    assert len({tuple(outcome.tokens) for outcome in alone.values()}) > len(WAYS) // 2
    _check_drafts(together)
    _check_books(engine)


def _check_tokens(expected: Outcome, outcome: Outcome, way: Way, spec: str, *, is_steady: bool) -> None:
    if is_steady:
        assert outcome.tokens == expected.tokens, (way, spec)
    elif way.seed is None:
        difference = greedy_difference(expected.token_events, outcome.token_events)
        assert difference is None or difference.distance <= 2 * LOGIT_DRIFT, (way, spec)
    assert len(outcome.tokens) == len(expected.tokens)


def _cause(way: Way) -> str:
    return "context_full" if way.policy == "error" else "max_tokens"


NEVER_RIGHT = {("draft", "has_grammar", True)}
"""The draft model knows no grammar, and this one asks for tokens that no model would choose."""


def _check_drafts(together: dict[tuple[Way, str], Outcome]) -> None:
    """Every drafter was right somewhere with every value of every axis, or is off."""
    for axis in ("policy", "has_grammar", "lora", "seed"):
        for value in {getattr(way, axis) for way in WAYS}:
            for spec in set(DRAFTERS) - {"off", "auto"}:
                n = sum(accepted(o) for (way, s), o in together.items() if s == spec and getattr(way, axis) == value)
                assert (n > 0) != ((spec, axis, value) in NEVER_RIGHT), (spec, axis, value)
    assert all(o.finish.usage.speculation is None for (_, spec), o in together.items() if spec == "off")


def _check_books(engine: Engine) -> None:
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    stats = engine.stats()
    assert stats.n_cells_used == stats.n_cells_idle == stats.n_sequence_ids_used == 0
