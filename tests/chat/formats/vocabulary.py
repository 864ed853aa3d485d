"""Vocabularies for grammars of calls: all bytes, and markers either as control tokens or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localllm.chat.grammar import GrammarCompiler
from tests.chat.vocabularies import ByteVocab


class MarkerVocab(ByteVocab):
    """ByteVocab with some texts as control tokens."""

    def __init__(self, markers: Sequence[str] = ()) -> None:
        super().__init__()
        self.control = {marker: len(self.pieces) + index for index, marker in enumerate(markers)}
        self.pieces += [marker.encode() for marker in markers]

    def is_control(self, token: int) -> bool:
        return super().is_control(token) or token in self.control.values()

    def with_control(self, text: str) -> list[int]:
        """Return the tokens of `text`, markers in it as the control tokens that they are."""
        if not self.control:
            return self.tokenize(text)
        pattern = "|".join(map(re.escape, sorted(self.control, key=len, reverse=True)))
        parts = re.split(f"({pattern})", text)
        return [token for part in parts for token in ([self.control[part]] if part in self.control else part.encode())]


class Acceptance:
    """How far a grammar goes along with a text."""

    def __init__(self, vocab: MarkerVocab) -> None:
        self.vocab = vocab
        self._compiler = GrammarCompiler(vocab)

    def accepts(self, grammar: str, text: str, *, kind: str = "lark", preamble: str = "") -> bool:
        """Whether the text may be written, and the turn end after it."""
        constraint = self._compiler.compile(kind, grammar, preamble=preamble)
        tokens = self.vocab.with_control(text)
        return constraint.n_allowed(tokens) == len(tokens) and constraint.n_allowed([*tokens, 256]) == len(tokens) + 1

    def n_allowed(self, grammar: str, text: str) -> int:
        """Return how many tokens of `text` may be written."""
        return self._compiler.compile("lark", grammar).n_allowed(self.vocab.with_control(text))

    def may_continue(self, grammar: str, text: str) -> bool:
        """Whether anything but the end may follow `text`."""
        constraint = self._compiler.compile("lark", grammar)
        for token in self.vocab.with_control(text):
            constraint.accept(token)
        return not constraint.is_complete
