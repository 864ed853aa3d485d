"""What an evaluation found, with the uncertainty of each number.

The standard errors are those of llama-perplexity: they take each token as a draw of its own. Neighbouring tokens are
not quite, so the true errors are somewhat larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from localllm.evaluate.scores import DivergenceScores, Floats


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error, which is NaN for a single value."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Return the mean of [n] values."""
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
        return cls(float(values.mean()), error)


@dataclass(frozen=True)
class Divergence:
    """How far a model is from the reference on the same tokens.

    KL divergences are KL(reference ‖ this), in nats per token. Source of the selection: llama-perplexity,
    `kl_divergence`, whose quantiles interpolate as these do.
    """

    kl: Estimate
    median: float
    p90: float
    p95: float
    p99: float
    p999: float
    max: float
    same_top: Estimate
    """Share of tokens, 0 to 1, where both find the same token likeliest."""
    delta_p_mean: Estimate
    """Change of the probability of the token that came; below 0, this model is worse at it."""
    delta_p_rms: float
    """Root mean square of that change."""
    log_perplexity_ratio: Estimate
    """ln(perplexity / reference's), its error from paired tokens: far smaller than those of the two perplexities."""

    @classmethod
    def of(cls, scores: DivergenceScores, log_ratio: Floats) -> Self:
        """Summarize the scores of [n] tokens; `log_ratio` is this model's surprise minus the reference's."""
        median, p90, p95, p99, p999 = np.quantile(scores.kl, [0.5, 0.9, 0.95, 0.99, 0.999]).tolist()
        return cls(
            kl=Estimate.of(scores.kl),
            median=median,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            max=float(scores.kl.max()),
            same_top=Estimate.of(scores.same_top.astype(np.float64)),
            delta_p_mean=Estimate.of(scores.delta_p),
            delta_p_rms=float(np.sqrt(np.square(scores.delta_p).mean())),
            log_perplexity_ratio=Estimate.of(log_ratio),
        )


@dataclass(frozen=True)
class Evaluation:
    """What one model, with one set of settings, made of the text."""

    perplexity: Estimate
    """exp of the mean −ln p of the scored tokens; its error is that mean's, times the perplexity."""
    n_scored: int
    """Tokens whose probability counts."""
    n_evaluated: int
    """Tokens computed, those that are only context included."""
    decode_s: float
    """Seconds in llama.cpp, without the statistics."""
    kv_allocated_bytes: int
    """Of the KV cache, as llama.cpp logged it: rounded to hundredths of a MiB."""
    divergence: Divergence | None = None
    """From the reference; None for the reference itself."""

    @property
    def prefill_tok_s(self) -> float:
        """Tokens a second, as it happened to be; not a benchmark."""
        return self.n_evaluated / self.decode_s if self.decode_s else float("inf")


@dataclass(frozen=True)
class Comparison:
    """A reference, and others on the same tokens."""

    reference: Evaluation
    others: tuple[Evaluation, ...]


def perplexity_of(nll: Floats) -> Estimate:
    """Return exp(mean) of [n] values of −ln p, with its standard error by the delta method."""
    mean = Estimate.of(nll)
    value = float(np.exp(mean.value))
    return Estimate(value, value * mean.standard_error)
