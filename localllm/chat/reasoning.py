"""A limit on how long a model thinks, as a constraint on its tokens."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from localllm.engine.matchers import TokenConstraint


class ReasoningBudget:
    """Counts the tokens of the reasoning, and then makes the model end it; an `engine.matchers.TokenConstraint`.

    Args:
        n_tokens: how many tokens of reasoning are allowed; 0 ends it at once.
        start: the text that begins the reasoning, where the prompt has not.
        end: the text that ends it.
        ending: the tokens of `end`, and what shall go around it; at least one.
        is_open: whether the prompt has begun the reasoning.
        piece: the bytes of a token, those of control tokens too.
        inner: what else constrains the tokens, the reasoning included.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        start: str,
        end: str,
        ending: Sequence[int],
        is_open: bool,
        piece: Callable[[int], bytes],
        inner: TokenConstraint | None = None,
    ) -> None:
        self._left = n_tokens
        self._start = start.encode()
        self._end = end.encode()
        self._ending = list(ending)
        self._piece = piece
        self._inner = inner
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = b""
        self._is_before = not is_open
        self._is_thinking = is_open

    def mask_logits(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of forbidden tokens to -inf, in place. `logits` is [n_vocab] float32."""
        forced = self._forced
        if forced is not None:
            kept = logits[forced]
            logits.fill(-np.inf)
            logits[forced] = kept
        elif self._inner is not None:
            self._inner.mask_logits(logits)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        forced = self._forced
        if forced is not None:
            return token == forced
        return self._inner is None or self._inner.allows(token)

    def accept(self, token: int) -> None:
        """Advance by one token, which must be allowed."""
        forced = self._forced
        if self._inner is not None:
            self._inner.accept(token)
        if forced is not None:
            self._ending.pop(0)
            self._is_thinking = bool(self._ending)
        elif self._is_thinking:
            self._think(self._piece(token))
        elif self._is_before:
            self._look_for_start(self._piece(token))

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow but the end of the turn."""
        return self._inner is not None and self._inner.is_complete

    @property
    def _forced(self) -> int | None:
        """The one token that may come next; None where the model chooses.

        Not within a character, nor where the inner constraint has no place for the end.
        """
        if not self._is_thinking or self._left > 0 or not self._ending:
            return None
        token = self._ending[0]
        is_half = bool(self._characters.getstate()[0])
        if self._inner is None:
            return None if is_half else token
        return token if self._inner.allows(token) else None

    def _look_for_start(self, piece: bytes) -> None:
        self._tail = (self._tail + piece).lstrip()
        if self._tail.startswith(self._start):
            self._is_before, self._is_thinking = False, True
            self._tail = self._tail[len(self._start) :]
        elif not self._start.startswith(self._tail):
            self._is_before = False

    def _think(self, piece: bytes) -> None:
        self._left -= 1
        self._characters.decode(piece)
        self._tail += piece
        if self._end in self._tail:
            self._is_thinking = False
        self._tail = self._tail[-len(self._end) :]
