"""When the draft model computes: it reads what it must have read, and proposes what was decided on.

Both take time of the step. What a proposal costs is in the controller's decision. To read a prompt is an investment
that pays only if the answer goes on; how long an answer goes on nobody knows, so it is taken to be as long again as it
is already (never longer than the request allows). Reading comes when what it costs is well below what drafts are then
expected to save. It is not paid from the controller's credit, so an answer that ends early can cost more than that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from localllm.engine.speculation.acceptance import SharedRates
from localllm.engine.speculation.draft_model import MAX_BEHIND, DraftModel
from localllm.engine.speculation.draft_sampler import Choice
from localllm.engine.speculation.model_drafter import PLACE_PRIORS, ModelDrafter
from localllm.engine.speculation.stream_drafts import Source, StreamDrafts

if TYPE_CHECKING:
    from localllm.engine.sequence import Sequence as EngineSequence

_READ_SHARE = 1.0
"""Time for reading in a step, over that of a step without drafts."""
_MIN_READ = 16
"""Tokens that are read in a step in any case."""
_MIN_EXPECTED = 32
"""Tokens that an answer is taken to go on for, at least."""
_MIN_RETURN = 2.0
"""Expected saving over the time for reading."""


class ModelDrafts:
    """The draft model's part in the steps.

    Args:
        model: the draft model.
    """

    def __init__(self, model: DraftModel) -> None:
        self.model = model
        self.rates = SharedRates(PLACE_PRIORS)
        self.read_s = 0.0
        """Seconds for reading in this step ..."""
        self.drafting_s = 0.0
        """... and for proposing."""

    def begin_step(self) -> None:
        self.read_s = self.drafting_s = 0.0

    def read(self, behind: Sequence[ModelDrafter], plain_s: float) -> None:
        """Read some of what is missing; `plain_s` is the time of a step without drafts."""
        if not behind:
            return
        started = time.perf_counter()
        n = int(_READ_SHARE * plain_s / max(self.model.read_s(plain_s), 1e-9))
        self.model.catch_up([drafter.reader for drafter in behind], max(n, _MIN_READ))
        self.read_s = time.perf_counter() - started

    def propose(self, asked: Mapping[int, tuple[Source, ModelDrafter, int, float]]) -> dict[int, list[Choice]]:
        """Let the model propose.

        Args:
            asked: by request id, the source, its drafter, the tokens to propose at most, and how likely each must be.

        Returns:
            What is proposed, by request id.
        """
        if not asked:
            return {}
        started = time.perf_counter()
        asks = {key: drafter.ask(n, least, source.acceptance) for key, (source, drafter, n, least) in asked.items()}
        self.model.draft(list(asks.values()))
        self.drafting_s = time.perf_counter() - started
        return {key: drafter.take(asks[key]) for key, (_, drafter, _, _) in asked.items()}

    def is_worth_reading(self, sequence: EngineSequence, drafter: ModelDrafter, speed: float, plain_s: float) -> bool:
        """Whether to read what the model misses of a sequence, at an expected speed over that without drafts."""
        if speed <= 1.0 or plain_s <= 0:
            return False
        n_to_come = max(sequence.n_generated, _MIN_EXPECTED)
        if sequence.request.max_tokens is not None:
            n_to_come = min(n_to_come, sequence.request.max_tokens - sequence.n_generated)
        saved_s = n_to_come * plain_s * (1.0 - 1.0 / speed)
        return saved_s >= _MIN_RETURN * drafter.n_missing * self.model.read_s(plain_s)


def is_behind(state: StreamDrafts) -> ModelDrafter | None:
    """Return a sequence's model drafter, if it must read before it can propose."""
    source = state.model_source
    if source is None or source[1].n_missing <= MAX_BEHIND:
        return None
    return source[1]
