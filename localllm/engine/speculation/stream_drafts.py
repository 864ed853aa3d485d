"""What one sequence's speculation has learned and done."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.engine.events import Speculation
from localllm.engine.speculation.acceptance import Acceptance
from localllm.engine.speculation.drafter import Drafter
from localllm.engine.speculation.model_drafter import ModelDrafter


class Source:
    """One drafter of a sequence, with the rates of its grades and its counts."""

    __slots__ = ("acceptance", "drafter", "n_accepted", "n_drafted")

    def __init__(self, drafter: Drafter, acceptance: Acceptance) -> None:
        self.drafter = drafter
        self.acceptance = acceptance
        self.n_drafted = 0
        self.n_accepted = 0


class StreamDrafts:
    """A sequence's drafters, and which of them has the next draft."""

    __slots__ = ("current", "is_forced", "plain_s", "sources", "spent_s")

    def __init__(self, sources: Sequence[Source], *, is_forced: bool) -> None:
        self.sources = sources
        self.current = sources[0]
        self.is_forced = is_forced
        self.plain_s = 0.0
        """Seconds that the steps so far would have taken without drafts."""
        self.spent_s = 0.0

    @property
    def model_source(self) -> tuple[Source, ModelDrafter] | None:
        """The source that is a draft model, and its drafter."""
        for source in self.sources:
            if isinstance(source.drafter, ModelDrafter):
                return source, source.drafter
        return None

    @property
    def report(self) -> Speculation:
        """What is told of it; the kind is that of the drafter that proposed most."""
        most = max(self.sources, key=lambda source: source.n_drafted)
        return Speculation(
            kind=most.drafter.kind,
            drafted=sum(source.n_drafted for source in self.sources),
            accepted=sum(source.n_accepted for source in self.sources),
            speedup_est=self.plain_s / self.spent_s if self.spent_s > 0 else 1.0,
        )

    def close(self) -> None:
        """Free what the drafters hold."""
        for source in self.sources:
            if isinstance(source.drafter, ModelDrafter):
                source.drafter.close()
