from __future__ import annotations

import math

import numpy as np
import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine.sampling import Greedy
from localllm.llama import Model
from tests.engine.driving import GREEDY, generate, prompt_of


@pytest.mark.parametrize("seed", range(20))
def test_greedy_chooses_what_is_largest_after_the_bias(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=300).astype(np.float32)
    order = np.argsort(-logits)
    bias = {int(token): -math.inf for token in order[: seed % 4]}
    bias |= {int(token): float(rng.normal(scale=2)) for token in rng.choice(order[4:], 5)}
    biased = logits.copy()
    for token, value in bias.items():
        biased[token] += np.float32(value)
    assert Greedy(bias).choose(logits.copy()) == biased.argmax()
    only_lowers = {token: -abs(value) for token, value in bias.items()}
    assert Greedy(only_lowers).choose(logits.copy()) == order[seed % 4]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(seed=0),
        SamplingParams(seed=0, top_k=0, top_p=1.0, min_p=0.0),
        SamplingParams(seed=3, mirostat=1),
        SamplingParams(seed=3, mirostat=2),
        SamplingParams(seed=4, xtc_probability=0.5, typical_p=0.9, top_n_sigma=2.0),
        SamplingParams(seed=5, dry_multiplier=0.8, repeat_penalty=1.1, presence_penalty=0.2),
    ],
    ids=str,
)
def test_a_seed_reproduces_its_output(engine: Engine, sampling: SamplingParams) -> None:
    runs = [generate(engine, prompt_of(50, 30), max_tokens=30, sampling=sampling).tokens for _ in range(2)]
    assert runs[0] == runs[1]


def test_seeds_differ_and_no_seed_draws_one(engine: Engine) -> None:
    prompt = prompt_of(51, 30)
    hot = [SamplingParams(seed=s, temperature=2.0, top_k=0, top_p=1.0, min_p=0.0) for s in (1, 2, None, None)]
    outputs = [tuple(generate(engine, prompt, max_tokens=20, sampling=s, ignore_eos=True).tokens) for s in hot]
    assert len(set(outputs)) == 4


def test_forbidden_token_is_never_chosen(engine: Engine) -> None:
    prompt = prompt_of(52, 30)
    favourite = generate(engine, prompt, max_tokens=1, ignore_eos=True).tokens[0]
    sampling = SamplingParams(temperature=0, logit_bias={favourite: -math.inf})
    assert favourite not in generate(engine, prompt, max_tokens=40, sampling=sampling, ignore_eos=True).tokens


def test_prompt_counts_for_the_repetition_penalty(engine: Engine) -> None:
    prompt = prompt_of(53, 60)
    favourite = generate(engine, prompt, max_tokens=1, ignore_eos=True).tokens[0]
    sampling = SamplingParams(temperature=0, repeat_penalty=1e6, repeat_last_n=-1)
    again = generate(engine, [favourite, *prompt], max_tokens=1, sampling=sampling, ignore_eos=True).tokens[0]
    assert again not in (favourite, *prompt)


def test_logprobs_are_the_models_own_and_sum_to_one(engine: Engine, tiny: Model) -> None:
    sampling = SamplingParams(temperature=0, logit_bias={5: 50.0})
    event = generate(engine, prompt_of(54, 20), max_tokens=1, sampling=sampling, n_logprobs=20).token_events[0]
    assert event.token == 5
    assert event.logprob is not None and event.logprob < 0
    tops = [t.logprob for t in event.top_logprobs]
    assert tops == sorted(tops, reverse=True) and len(tops) == 20
    assert sum(np.exp(tops)) <= 1 + 1e-6
    assert event.top_logprobs[0].piece == tiny.vocab.piece(event.top_logprobs[0].token)


def test_logprob_of_a_greedy_token_is_the_top_one(engine: Engine) -> None:
    for event in generate(engine, prompt_of(55, 20), max_tokens=10, n_logprobs=1).token_events:
        assert event.top_logprobs[0].token == event.token
        assert event.top_logprobs[0].logprob == event.logprob


class OnlyThese:
    """A constraint that walks through given tokens."""

    def __init__(self, tokens: list[int]) -> None:
        self.left = list(tokens)

    def mask_logits(self, logits: np.ndarray) -> None:
        keep = logits[self.left[0]]
        logits[:] = -math.inf
        logits[self.left[0]] = keep

    def allows(self, token: int) -> bool:
        return bool(self.left) and self.left[0] == token

    def accept(self, token: int) -> None:
        assert self.left.pop(0) == token

    @property
    def is_complete(self) -> bool:
        return not self.left


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=1), SamplingParams(seed=1, mirostat=2)])
def test_constraint_decides_the_tokens_and_ends_the_request(engine: Engine, sampling: SamplingParams) -> None:
    outcome = generate(engine, prompt_of(56, 20), constraint=OnlyThese([70, 71, 72]), sampling=sampling)
    assert outcome.tokens == [70, 71, 72]
    assert (outcome.finish.reason, outcome.finish.cause) == ("stop", "grammar")


def test_visible_control_tokens_have_their_text(engine: Engine, tiny: Model) -> None:
    vocab = tiny.vocab
    control = next(t for t in range(vocab.n_tokens) if vocab.is_control(t) and not vocab.is_eog(t))
    sampling = SamplingParams(temperature=0, logit_bias={control: 1000.0})
    hidden = generate(engine, prompt_of(3, 8), max_tokens=1, sampling=sampling).token_events[0]
    shown = generate(engine, prompt_of(3, 8), max_tokens=1, sampling=sampling, visible_tokens=(control,)).token_events[
        0
    ]
    assert hidden.token == shown.token == control
    assert (hidden.piece, shown.piece.decode()) == (b"", vocab.text(control))
