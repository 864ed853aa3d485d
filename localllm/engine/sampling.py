"""From a request's sampling parameters to llama.cpp's sampler chain."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from localllm.engine.request import SamplingParams
from localllm.errors import RequestError
from localllm.llama import SamplerChain, Vocab

_RANDOM_SEED = 0xFFFFFFFF
"""llama.cpp takes this seed to mean: draw one."""


class Greedy:
    """Chooses the largest logit: what a chain for temperature 0 does where nothing looks back, in a tenth of its time.

    Args:
        bias: added to the logits of these tokens; -inf forbids one.
    """

    def __init__(self, bias: Mapping[int, float] | None = None) -> None:
        self._bias = bias or {}
        self._may_raise = any(value > 0 for value in self._bias.values())

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return the likeliest token. `logits`: [n_vocab] float32; the bias may be added to them in place."""
        token = int(logits.argmax())
        if not self._may_raise and token not in self._bias:
            return token  # lowering others changes nothing
        logits[list(self._bias)] += np.array(list(self._bias.values()), dtype=np.float32)
        return int(logits.argmax())


def resolve_seed(seed: int | None) -> int:
    """Return a 32-bit seed that means itself; None draws one."""
    value = secrets.randbits(32) if seed is None else seed % 2**32
    return value if value != _RANDOM_SEED else _RANDOM_SEED - 1


def bounded(params: SamplingParams, n_ctx: int) -> SamplingParams:
    """Return the parameters with the penalties' spans as token counts, `n_ctx` at most.

    llama.cpp takes -1 for "off" at this version, and sets aside memory for the whole span at once.
    """

    def span(last_n: int) -> int:
        return n_ctx if last_n < 0 else min(last_n, n_ctx)

    return msgspec.structs.replace(
        params, repeat_last_n=span(params.repeat_last_n), dry_penalty_last_n=span(params.dry_penalty_last_n)
    )


def build_chain(
    params: SamplingParams, vocab: Vocab, seed: int, forbidden: tuple[int, ...] = (), *, draws: bool = True
) -> SamplerChain:
    """Build the chain in the order that `SamplingParams` documents.

    Args:
        params: checked by `check_sampling` and put through `bounded` before.
        vocab: of the model.
        seed: from `resolve_seed`.
        forbidden: tokens that must never be chosen.
        draws: False leaves out the draw at the end, so that the chain can be asked for its distribution.
    """
    chain = SamplerChain()
    if bias := all_bias(params, forbidden):
        chain.add_logit_bias(vocab.n_tokens, bias)
    _add_penalties(chain, params, vocab)
    if params.temperature <= 0:
        chain.add_greedy()
    elif params.mirostat:
        _add_mirostat(chain, params, vocab, seed)
    else:
        _add_truncation(chain, params, seed)
        if draws:
            chain.add_dist(seed)
    return chain


def build_draft_chain(params: SamplingParams) -> SamplerChain:
    """Build the chain whose distribution a draft model's tokens are drawn from: truncation and temperature alone."""
    chain = SamplerChain()
    _add_truncation(chain, params, seed=0)
    return chain


def _add_penalties(chain: SamplerChain, params: SamplingParams, vocab: Vocab) -> None:
    if uses_penalties(params):
        chain.add_penalties(
            vocab.n_tokens,
            params.repeat_last_n,
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )
    if params.dry_multiplier > 0:
        chain.add_dry(
            vocab,
            multiplier=params.dry_multiplier,
            base=params.dry_base,
            allowed_length=params.dry_allowed_length,
            last_n=params.dry_penalty_last_n,
            breakers=params.dry_sequence_breakers,
        )


def _add_mirostat(chain: SamplerChain, params: SamplingParams, vocab: Vocab, seed: int) -> None:
    chain.add_temperature(params.temperature)
    if params.mirostat == 1:
        chain.add_mirostat(vocab.n_tokens, seed, params.mirostat_tau, params.mirostat_eta)
    else:
        chain.add_mirostat_v2(seed, params.mirostat_tau, params.mirostat_eta)


def _add_truncation(chain: SamplerChain, params: SamplingParams, seed: int) -> None:
    if params.top_n_sigma > 0:
        chain.add_top_n_sigma(params.top_n_sigma)
    if params.top_k > 0:
        chain.add_top_k(params.top_k)
    if params.typical_p < 1:
        chain.add_typical(params.typical_p)
    if params.top_p < 1:
        chain.add_top_p(params.top_p)
    if params.min_p > 0:
        chain.add_min_p(params.min_p)
    if params.xtc_probability > 0:
        chain.add_xtc(params.xtc_probability, params.xtc_threshold, seed)
    chain.add_temperature(params.temperature)


def uses_penalties(params: SamplingParams) -> bool:
    """Whether repetition, frequency or presence penalties are on."""
    return params.repeat_last_n != 0 and (
        params.repeat_penalty != 1 or params.frequency_penalty != 0 or params.presence_penalty != 0
    )


def all_bias(params: SamplingParams, forbidden: tuple[int, ...]) -> dict[int, float]:
    """Return what is added to logits, by token: the request's bias, and -inf for forbidden tokens."""
    return {**params.logit_bias, **dict.fromkeys(forbidden, -math.inf)}


def is_greedy(params: SamplingParams) -> bool:
    """Whether the next token is the largest logit after the bias, whatever came before: no chain is needed."""
    return params.temperature <= 0 and not uses_penalties(params) and params.dry_multiplier <= 0


def n_history(params: SamplingParams) -> int:
    """Return how many of the last prompt tokens the chain must be told of, for `bounded` parameters."""
    spans = [params.repeat_last_n] if uses_penalties(params) else []
    if params.dry_multiplier > 0:
        spans.append(params.dry_penalty_last_n)
    return max(spans, default=0)


def check_sampling(params: SamplingParams, n_vocab: int) -> None:
    """Refuse values that llama.cpp would misread or abort on.

    Raises:
        RequestError: names the parameter, its value and what is allowed.
    """
    for name in (
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "top_n_sigma",
        "xtc_probability",
        "xtc_threshold",
        "repeat_penalty",
        "frequency_penalty",
        "presence_penalty",
        "dry_multiplier",
        "dry_base",
        "mirostat_tau",
        "mirostat_eta",
    ):
        _check(math.isfinite(getattr(params, name)), name, getattr(params, name), "a finite number")
    _check(params.temperature >= 0, "temperature", params.temperature, "0 or more")
    for name in ("top_p", "typical_p"):
        _check(0 < getattr(params, name) <= 1, name, getattr(params, name), "above 0 and at most 1")
    for name in ("min_p", "xtc_probability", "xtc_threshold"):
        _check(0 <= getattr(params, name) <= 1, name, getattr(params, name), "0 to 1")
    _check(params.repeat_penalty > 0, "repeat_penalty", params.repeat_penalty, "above 0")
    _check(params.mirostat in (0, 1, 2), "mirostat", params.mirostat, "0, 1 or 2")
    _check(params.dry_multiplier == 0 or params.dry_base >= 1, "dry_base", params.dry_base, "1 or more")
    for name in ("repeat_last_n", "dry_penalty_last_n"):
        _check(-1 <= getattr(params, name) <= 2**30, name, getattr(params, name), "-1 or more")
    for token, bias in params.logit_bias.items():
        _check(0 <= token < n_vocab, "logit_bias", token, f"a token id below {n_vocab}")
        _check(not math.isnan(bias) and bias != math.inf, "logit_bias", bias, "a number, or -inf to forbid")


def _check(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise RequestError(f"{name} is {value}; it must be {allowed}.", hint=f"Change {name}.")
