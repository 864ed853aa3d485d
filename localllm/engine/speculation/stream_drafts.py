"""What one sequence's speculation has learned and done."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.engine.events import Speculation
from localllm.engine.speculation.acceptance import Acceptance
from localllm.engine.speculation.drafter import Drafter
from localllm.engine.speculation.lookahead import Lookahead
from localllm.engine.speculation.lookahead_gain import LookaheadGain
from localllm.engine.speculation.model_drafter import ModelDrafter
from localllm.hardware.types import SpecMode


class Source:
    """One drafter of a sequence, with the rates of its grades and its counts."""

    __slots__ = ("acceptance", "drafter", "n_accepted", "n_drafted")

    def __init__(self, drafter: Drafter, acceptance: Acceptance) -> None:
        self.drafter = drafter
        self.acceptance = acceptance
        self.n_drafted = 0
        self.n_accepted = 0


class StreamDrafts:
    """A sequence's drafters, and which of them has the next draft.

    Args:
        sources: at least one.
        mode: not "off".
    """

    __slots__ = ("current", "gain", "mode", "plain_s", "sources", "spent_s")

    def __init__(self, sources: Sequence[Source], mode: SpecMode) -> None:
        self.sources = list(sources)
        self.current = self.sources[0]
        self.mode = mode
        self.gain = LookaheadGain()
        self.plain_s = 0.0
        """Seconds that the steps so far would have taken without drafts."""
        self.spent_s = 0.0

    @property
    def is_forced(self) -> bool:
        """Whether to draft at any price."""
        return self.mode != "auto"

    @property
    def lookahead(self) -> tuple[Source, Lookahead] | None:
        """The source that looks ahead, and its drafter."""
        for source in self.sources:
            if isinstance(source.drafter, Lookahead):
                return source, source.drafter
        return None

    def look_ahead(self, tokens: Sequence[int]) -> Lookahead:
        """Return what looks ahead; where nothing did so far, it takes in all tokens."""
        if self.lookahead is None:
            self.sources.append(Source(Lookahead(), self.current.acceptance))
        assert self.lookahead is not None
        source, lookahead = self.lookahead
        lookahead.follow(tokens, source.acceptance)
        return lookahead

    @property
    def model_source(self) -> tuple[Source, ModelDrafter] | None:
        """The source that is a draft model, and its drafter."""
        for source in self.sources:
            if isinstance(source.drafter, ModelDrafter):
                return source, source.drafter
        return None

    @property
    def report(self) -> Speculation:
        """What is told of it; the kind names every drafter that proposed something."""
        kinds = [source.drafter.kind for source in self.sources if source.n_drafted]
        return Speculation(
            kind="+".join(kinds or [self.sources[0].drafter.kind]),
            drafted=sum(source.n_drafted for source in self.sources),
            accepted=sum(source.n_accepted for source in self.sources),
            speedup_est=self.plain_s / self.spent_s if self.spent_s > 0 else 1.0,
        )

    def close(self) -> None:
        """Let the drafters go."""
        for source in self.sources:
            source.drafter.close()
