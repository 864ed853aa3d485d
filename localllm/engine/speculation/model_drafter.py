"""The draft model as the drafter of one sequence, and what it says of its own certainty.

Before anything is computed, a token's grade is its place in the draft; so a rate is learned for each place, of the
tokens that were proposed there. While it is computed, the draft's own confidence is the grade, whose rate is learned,
too: where that says that a token is not worth its place in the batch, the draft ends.

A sequence that slides has no more drafts from its first slide on: the draft model's cells would have to slide with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from localllm.engine.speculation.acceptance import Acceptance
from localllm.engine.speculation.draft_model import Ask, DraftModel, Reader
from localllm.engine.speculation.draft_sampler import Choice

MAX_PLACES = 16
_PLACE_PRIOR = 0.7
_CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_CONFIDENCE_PRIORS = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.92, 0.97, 0.99)
"""Of confidences below the first bound, between the first and the second, and so on."""
PLACE_PRIORS = (*[_PLACE_PRIOR] * MAX_PLACES, *_CONFIDENCE_PRIORS)
_RELAX_AFTER = 64
"""Tokens without a draft, after which what was learned of the sequence counts less: it may be another text by now."""


class ModelDrafter:
    """Proposes what the draft model says.

    Args:
        model: of the engine.
        reader: the sequence.
        always: whether the first token is proposed whatever the model's confidence in it.
    """

    kind = "draft"

    def __init__(self, model: DraftModel, reader: Reader, *, always: bool) -> None:
        self._model = model
        self._always = always
        self.reader = reader
        self._draft: list[Choice] = []
        self._n_before = 0
        self._n_seen = 0
        self._is_readable = True

    @property
    def n_missing(self) -> int:
        """Tokens that the draft model must still compute; 0 where it cannot read this sequence."""
        return self._model.n_missing(self.reader) if self._is_readable and self._model.can_read(self.reader) else 0

    def follow(self, tokens: Sequence[int], acceptance: Acceptance) -> bool:
        self._judge(tokens, acceptance)
        if max(tokens[self._n_seen :], default=0) >= self._model.n_vocab:
            self._is_readable = False
        self._n_seen = len(tokens)
        if not self._is_readable or not self._model.can_read(self.reader):
            return False
        return not self._model.is_behind(self.reader)

    def grades(self) -> Sequence[int]:
        return range(min(MAX_PLACES, self._model.n_ctx - len(self.reader.tokens)))

    def ask(self, n: int, least: float, acceptance: Acceptance) -> Ask:
        """Return what the draft model shall be asked for.

        Args:
            n: tokens at most.
            least: how likely a token must be accepted, those before it included, to be proposed.
            acceptance: of this drafter's grades.
        """
        survival = 1.0

        def is_worth(confidence: float) -> bool:
            nonlocal survival
            is_first, survival = survival == 1.0, survival * acceptance.rate(_grade(confidence))
            return survival >= least or (self._always and is_first)

        return Ask(self.reader, n, is_worth)

    def take(self, ask: Ask) -> list[Choice]:
        """Return what was proposed, and remember it until it is known what came."""
        self._draft, self._n_before = ask.choices, len(self.reader.tokens)
        return ask.choices

    def propose(self, n: int) -> list[int]:
        return [choice.token for choice in self._draft[:n]]

    def close(self) -> None:
        """Say that the sequence ended, and free what chooses its tokens."""
        self._model.release(self.reader)
        self.reader.sampler.close()

    def _judge(self, tokens: Sequence[int], acceptance: Acceptance) -> None:
        """Count which of the last draft's tokens came."""
        if not self._draft:
            acceptance.was_right = False
            if len(tokens) - self._n_before >= _RELAX_AFTER:
                self._n_before = len(tokens)
                acceptance.relax()
            return
        for place, (choice, token) in enumerate(zip(self._draft, tokens[self._n_before :], strict=False)):
            is_hit = choice.token == token
            acceptance.count(_grade(choice.confidence), is_hit)
            acceptance.count(place, is_hit)
            if not is_hit:
                break
        self._draft = []


def _grade(confidence: float) -> int:
    return MAX_PLACES + bisect_right(_CONFIDENCES, confidence)
