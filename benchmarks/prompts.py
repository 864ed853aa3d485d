"""Prompts: ordinary text where texts are compared, random tokens where nothing may be cached."""

from __future__ import annotations

import numpy as np

from localllm.llama import Vocab

_WHO = (
    "a lighthouse keeper",
    "an old sailor",
    "two engineers",
    "the baker's daughter",
    "a retired judge",
    "a tired fox",
)
_WHERE = ("on a cold island", "in a mountain village", "under a railway bridge", "at the edge of a desert", "in Lisbon")
_WHAT = ("finds a letter from", "must repair the clock of", "argues about the money of", "teaches chess to")
_WHOM = ("a stranger", "the mayor", "a lost child", "an astronomer", "her brother", "the last customer")


def sentence(rng: np.random.Generator) -> str:
    """Return the beginning of a story."""
    who, where, what, whom = (str(rng.choice(words)) for words in (_WHO, _WHERE, _WHAT, _WHOM))
    return f"In {rng.integers(1700, 2100)}, {who} {where} {what} {whom}. "


class Prompts:
    """Draws prompts; the same seed draws the same ones."""

    def __init__(self, vocab: Vocab, seed: int) -> None:
        self._vocab = vocab
        self._rng = np.random.default_rng(seed)
        self._plain = np.array([t for t in range(vocab.n_tokens) if vocab.piece(t).isascii() and vocab.piece(t)])

    def text(self, n_tokens: int) -> list[int]:
        """Return the beginning of a story, exactly `n_tokens` long."""
        tokens: list[int] = []
        while len(tokens) < n_tokens:
            tokens += self._vocab.tokenize(sentence(self._rng), add_special=False, parse_special=False)
        return tokens[:n_tokens]

    def noise(self, n_tokens: int) -> list[int]:
        """Return random tokens of printable text."""
        return [int(t) for t in self._rng.choice(self._plain, size=n_tokens)]
