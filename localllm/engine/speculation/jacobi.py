"""The Jacobi window: guesses of the coming tokens, which the model itself corrects step by step.

It knows columns and levels, and neither batches nor sequences. With p the position of the stream's next token, the
token of level j in column i is a guess for position p + i + j. It was computed from those of column i at the levels
before it, and from level 0 up to column i; so a column is an n-gram that the model itself would say.

Source: Fu et al. 2024, section 3.1 and figure 2(b); the layout as in llama.cpp's examples/lookahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


class JacobiWindow:
    """`n_levels` rows of `n_columns` tokens. Level 0 of column 0 is the stream's next token, whatever stands there.

    Args:
        n_columns: the paper's W.
        n_levels: the paper's N - 1.
        guess: returns a token to begin with.
    """

    def __init__(self, n_columns: int, n_levels: int, guess: Callable[[], int]) -> None:
        self._guess = guess
        self.levels = [[guess() for _ in range(n_columns)] for _ in range(n_levels)]
        """[n_levels][n_columns]."""

    def ngrams(self, current: int, newest: Sequence[int]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield what each column says: a token, and the `n_levels` that follow it.

        Args:
            current: the stream's token, in column 0 of level 0.
            newest: what the model says after the last level: [n_columns].
        """
        first_level = [current, *self.levels[0][1:]]
        for first, *rest in zip(first_level, *self.levels[1:], newest, strict=True):
            yield first, tuple(rest)

    def advance(self, newest: Sequence[int]) -> None:
        """Move on by one position: the oldest level goes, and `newest`, as for `ngrams`, comes."""
        self.levels = [*self.levels[1:], list(newest)]

    def skip(self, n: int) -> None:
        """Move on by `n` positions at the same level: the first columns go, and others begin."""
        for level in self.levels:
            n_columns = len(level)
            del level[:n]
            level += [self._guess() for _ in range(n_columns - len(level))]
