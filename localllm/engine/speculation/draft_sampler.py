"""From the draft model's logits to the token that is proposed, for one request.

Where the target chooses by its own chain and a draft is right only where it says the same, the likeliest token is
proposed. Where the ratio rule decides, it is drawn from the request's own truncation and temperature: q must be known
and be what the token was drawn from; the closer it is to the target's p, the more is accepted.

It knows nothing of penalties and grammars, whose state belongs to the target's tokens: they are in p alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localllm.engine.speculation.rejection import Distribution, draw
from localllm.llama import SamplerChain


class Choice(NamedTuple):
    """One proposed token."""

    token: int
    confidence: float
    """The draft's largest probability. It says nothing of which token was drawn, so that drafts may end by it."""
    odds: Distribution | None
    """What the token was drawn from; None where it was not drawn."""


class DraftSampler:
    """Chooses what to propose.

    Args:
        n_vocab: tokens that target and draft model have in common, from 0 on.
        bias: added to the logits, by token; -inf forbids it.
        chain: truncation and temperature, to draw from; None takes the likeliest. It is this object's to close.
        rng: of the sequence.
    """

    def __init__(
        self, n_vocab: int, bias: Mapping[int, float], chain: SamplerChain | None, rng: np.random.Generator | None
    ) -> None:
        self._n_vocab = n_vocab
        known = {token: value for token, value in bias.items() if token < n_vocab}
        self._biased = np.fromiter(known, dtype=np.int64, count=len(known))
        self._bias = np.fromiter(known.values(), dtype=np.float32, count=len(known))
        self._chain = chain
        self._rng = rng

    def choose(self, logits: NDArray[np.float32]) -> Choice:
        """Choose by the draft model's logits, [its n_vocab] float32, which are changed in place."""
        logits = logits[: self._n_vocab]
        logits[self._biased] += self._bias
        best = int(logits.argmax())
        confidence = float(1.0 / np.exp(logits - logits[best]).sum())
        if self._chain is None or self._rng is None:
            return Choice(best, confidence, None)
        odds = Distribution(*self._chain.distribution(logits))
        return Choice(int(odds.tokens[draw(odds.p, self._rng)]), confidence, odds)

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            self._chain.close()
