"""Lookahead decoding: the model guesses its own coming tokens beside each step, and later steps check them.

A step's batch holds the stream's next token, a Jacobi window, and as branches the n-grams of the pool that begin with
that token. Each branch, and each column of the window, is a sequence of its own that shares the stream's cells.

Source: Fu, Bailis, Stoica, Zhang 2024, "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
section 3; of the text itself, too, the n-grams go into the pool, as their code can do with the prompt's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from localllm.engine.speculation.acceptance import Acceptance
from localllm.engine.speculation.jacobi import JacobiWindow
from localllm.engine.speculation.ngram_pool import NgramPool

if TYPE_CHECKING:
    from localllm.llama import Batch

_POOL_CAPACITY = 16
"""Continuations that are kept for a token; as many as the widest step can check, and more."""
_MAX_TEXT = 4096
"""Of a longer text the last tokens; about 5 ms to take in."""


class LookaheadSize(NamedTuple):
    """How wide a lookahead step is; the paper's W, N and G. N is at least 3."""

    n_columns: int
    n_gram: int
    n_branches: int

    @property
    def n_tokens(self) -> int:
        """Tokens of the batch, and cells, beside the stream's own."""
        return (self.n_columns + self.n_branches) * (self.n_gram - 1) - 1

    @property
    def n_rows(self) -> int:
        """Rows of logits beside the stream's own."""
        return self.n_columns + self.n_branches * (self.n_gram - 1)

    @property
    def n_ids(self) -> int:
        """Sequence ids beside the stream's own."""
        return self.n_columns + self.n_branches

    @property
    def n_positions(self) -> int:
        """Positions after the stream's own that the batch reaches."""
        return max(self.n_columns + self.n_gram - 3, self.n_gram - 1)


@dataclass(frozen=True, slots=True)
class LookaheadStep:
    """What one stream's lookahead step evaluates beside its next token."""

    size: LookaheadSize
    """As which it was planned; there may be fewer branches."""
    levels: tuple[tuple[int, ...], ...]
    """Of the window: [n_levels][n_columns]; the first of all stands for the stream's token."""
    branches: tuple[tuple[int, ...], ...]
    """Continuations of the stream's token that are checked."""

    @property
    def n_columns(self) -> int:
        return len(self.levels[0])

    @property
    def n_drafted(self) -> int:
        return sum(map(len, self.branches))

    @property
    def n_tokens(self) -> int:
        """Tokens, and cells, beside the stream's own."""
        return self.n_columns * len(self.levels) - 1 + self.n_drafted

    @property
    def n_ids(self) -> int:
        return self.n_columns + len(self.branches)

    def fill(self, batch: Batch, token: int, position: int, seq_id: int, ids: Sequence[int]) -> int:
        """Add the stream's token and all of this to a batch; return the token's index.

        Args:
            batch: has room.
            token: the stream's next.
            position: its.
            seq_id: the stream's.
            ids: [n_ids], sequences that share all of the stream's cells: the branches, then the columns.
        """
        index = batch.add_shared(token, position, [seq_id, *ids], wants_logits=True)
        columns = ids[len(self.branches) :]
        for branch, continuation in zip(ids, self.branches, strict=False):
            batch.add_outputs(continuation, position + 1, branch)
        for i, guess in enumerate(self.levels[0][1:], start=1):
            batch.add_shared(guess, position + i, columns[i:], wants_logits=False)
        for j, level in enumerate(self.levels[1:], start=1):
            is_last = j == len(self.levels) - 1
            for i, guess in enumerate(level):
                batch.add(guess, position + i + j, columns[i], wants_logits=is_last)
        return index

    def branch_offset(self, branch: int, n: int) -> int:
        """Return where, after the stream's token, the batch has the `n`-th token of a branch, counted from 1."""
        return sum(map(len, self.branches[:branch])) + n

    @property
    def newest_offsets(self) -> range:
        """Where, after the stream's token, the batch has the window's last level."""
        return range(self.n_tokens - self.n_columns + 1, self.n_tokens + 1)


class Lookahead:
    """One stream's window and pool. As a drafter it proposes no single draft; its branches have steps of their own.

    The guesses that a window begins with are drawn from the text, and the same for the same text.
    """

    kind = "lookahead"

    def __init__(self) -> None:
        self._pool = NgramPool(_POOL_CAPACITY)
        self._window: JacobiWindow | None = None
        self._window_at = 0
        """Tokens of the text when column 0 began with the last of them."""
        self._size: LookaheadSize | None = None
        self._text: list[int] = []
        self._n_followed = 0
        self._n_entered = 0
        self._random = random.Random(0)

    def follow(self, tokens: Sequence[int], acceptance: Acceptance) -> bool:
        """Take in what was appended; its n-grams enter the pool when a step needs them."""
        new = tokens[max(self._n_followed, len(tokens) - _MAX_TEXT) :]
        self._n_followed = len(tokens)
        self._text += new
        return True

    def grades(self) -> Sequence[int]:
        return ()

    def propose(self, n: int) -> list[int]:
        return []

    def close(self) -> None:
        """Hold nothing that must be freed."""

    def step(self, size: LookaheadSize, n_max: int) -> LookaheadStep:
        """Return the next step.

        Args:
            size: of the window, and how many branches at most.
            n_max: tokens of a branch, at most, that the request can still use.
        """
        if self._window is None or size != self._size:
            self._window = JacobiWindow(size.n_columns, size.n_gram - 1, self._guess)
        else:
            self._window.skip(self._n_followed - self._window_at)
        self._size, self._window_at = size, self._n_followed
        self._enter_text(size.n_gram)
        found = dict.fromkeys(c[: min(n_max, size.n_gram - 1)] for c in self._pool.after(self._text[-1]))
        branches = tuple(c for c in found if c)[: size.n_branches]
        return LookaheadStep(size, tuple(map(tuple, self._window.levels)), branches)

    def learn(self, newest: Sequence[int]) -> None:
        """Take in what the last step has computed: the likeliest token after each of the window's last level."""
        assert self._window is not None
        for first, continuation in self._window.ngrams(self._text[-1], newest):
            self._pool.add(first, continuation)
        self._window.advance(newest)
        self._window_at += 1

    def _guess(self) -> int:
        return self._random.choice(self._text)

    def _enter_text(self, n_gram: int) -> None:
        """Enter the n-grams of the text that end in its new tokens."""
        text = self._text
        for start in range(max(self._n_entered - n_gram + 1, 0), len(text) - n_gram + 1):
            self._pool.add(text[start], text[start + 1 : start + n_gram])
        self._n_entered = len(text)
