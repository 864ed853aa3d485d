"""An answer as tokens with their probabilities; no widgets, and nothing of where it is kept."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localllm.printable import marked

if TYPE_CHECKING:
    from localllm.llm import LLM, TokenChoice

N_TOP = 10
"""How many likely tokens are shown beside the one that came."""
HALF_CHARACTER = "‥"
"""Stands for a token that ends within a character."""


@dataclass(frozen=True)
class AnswerToView:
    """What the token view is about."""

    messages: Sequence[Mapping[str, Any]]
    """The conversation before the answer."""
    text: str
    llm: LLM
    choices: tuple[TokenChoice, ...] = ()
    """As they were when it was written; empty: they are computed again."""
    reasoning: str = ""
    """What the model thought before."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that the prompt depends on, such as `tools` and `thinking`."""

    @property
    def all_messages(self) -> list[Mapping[str, Any]]:
        """The conversation with the answer."""
        thought = {"reasoning": self.reasoning} if self.reasoning else {}
        return [*self.messages, {"role": "assistant", "content": self.text, **thought}]


@dataclass(frozen=True)
class Resample:
    """What the user wants instead: an answer that begins with `text` and goes on from there."""

    text: str
    """The kept tokens, and the one that was chosen. "" is a new answer from its beginning."""


@dataclass(frozen=True)
class ShownToken:
    """One token as it is shown."""

    text: str
    choice: TokenChoice

    @property
    def p(self) -> float:
        """Its probability, by the model's own distribution."""
        return math.exp(self.choice.chosen.logprob)

    @property
    def rank(self) -> int | None:
        """1 for the likeliest; None: below those that are known."""
        ids = [one.token for one in self.choice.top]
        return ids.index(self.choice.chosen.token) + 1 if self.choice.chosen.token in ids else None

    @property
    def entropy_bits(self) -> float:
        """Of the distribution, at least: what is below the known tokens counts as one."""
        known = [math.exp(one.logprob) for one in self.choice.top]
        rest = max(0.0, 1.0 - sum(known))
        return sum(-p * math.log2(p) for p in (*known, rest) if p > 0)


@dataclass(frozen=True)
class AnswerStats:
    """An answer in a few numbers."""

    n_tokens: int
    perplexity: float
    entropy_bits: float
    """The mean over its tokens, at least."""

    @classmethod
    def of(cls, tokens: Sequence[ShownToken]) -> AnswerStats:
        """Sum up at least one token."""
        n = len(tokens)
        nll = -sum(token.choice.chosen.logprob for token in tokens) / n
        return cls(n, math.exp(min(nll, 700.0)), sum(token.entropy_bits for token in tokens) / n)


def shown_tokens(choices: Sequence[TokenChoice]) -> list[ShownToken]:
    """Return tokens as text. A character of several tokens is shown with its last one."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [ShownToken(marked(decoder.decode(c.chosen.piece)) or HALF_CHARACTER, c) for c in choices]


def piece_text(piece: bytes) -> str:
    """Return one token alone on a line: blanks, line ends and halves of characters are visible."""
    try:
        text = marked(piece.decode())
    except UnicodeDecodeError:
        return f"‹{piece.hex(' ').upper()}›"
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "‹nothing›"


def resampled(tokens: Sequence[ShownToken], place: int, piece: bytes = b"") -> Resample | None:
    """Return the answer up to the token at `place`, with another in its stead; None where that ends in a character."""
    kept = b"".join(token.choice.chosen.piece for token in tokens[:place]) + piece
    try:
        return Resample(kept.decode())
    except UnicodeDecodeError:
        return None
