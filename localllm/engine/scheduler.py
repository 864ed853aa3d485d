"""Who runs, who waits, and what the next step carries. Policy only: it moves no cells and calls no model."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from localllm.engine.adapters import AdapterSet
from localllm.engine.cost import YOUNG_SHARE, StepCost
from localllm.engine.radix_tree import n_common
from localllm.engine.rota import Rota
from localllm.engine.sequence import Sequence
from localllm.engine.speculation.lookahead import LookaheadStep
from localllm.engine.speculation.rejection import Distribution

MIN_SHARED_WAIT = 64
"""A request waits for another's prefill if that will give it at least this many tokens more."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step evaluates, of one adapter set: a token of each stream, perhaps a draft, and chunks of prompts."""

    adapters: AdapterSet
    streams: list[Sequence]
    chunks: list[tuple[Sequence, int]]
    drafts: Mapping[int, list[int]] = field(default_factory=dict)
    """What is proposed after a stream's next token, by request id."""
    windows: Mapping[int, LookaheadStep] = field(default_factory=dict)
    """What is guessed and checked beside a stream's next token, by request id; such a stream has no draft."""
    odds: Mapping[int, SequenceOf[Distribution]] = field(default_factory=dict)
    """Of drafts that were drawn, what each token was drawn from."""

    def __iter__(self) -> Iterator[tuple[Sequence, int]]:
        """Yield each sequence with the number of its tokens."""
        return iter([(sequence, 1) for sequence in self.streams] + self.chunks)

    @property
    def n_chunk(self) -> int:
        return sum(n for _, n in self.chunks) if self.chunks else 0

    @property
    def n_drafted(self) -> int:
        if not self.is_speculative:
            return 0
        return sum(map(len, self.drafts.values())) + sum(window.n_drafted for window in self.windows.values())

    @property
    def is_speculative(self) -> bool:
        return bool(self.drafts or self.windows)

    @property
    def n_tokens(self) -> int:
        if not self.is_speculative:
            return len(self.streams) + self.n_chunk
        n_speculative = sum(map(len, self.drafts.values())) + sum(window.n_tokens for window in self.windows.values())
        return len(self.streams) + n_speculative + self.n_chunk

    @property
    def sequences(self) -> list[Sequence]:
        return [*self.streams, *(sequence for sequence, _ in self.chunks)]


class Scheduler:
    """First come, first served; the youngest gives way when cells run out, and comes back in its old place.

    Where several adapter sets run, they have turns.
    """

    def __init__(self, n_slots: int, n_batch: int) -> None:
        self.n_slots = n_slots
        self.n_batch = n_batch
        self._rota = Rota()
        self._costs: defaultdict[int, StepCost] = defaultdict(StepCost)
        self._adapters: AdapterSet = ()
        self._steady: StepPlan | None = None
        """The last plan of all that run: it is the next one too, as long as the same run."""
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.aside: Sequence | None = None
        """The running sequence whose prompt is computed in a context of its own; steps leave it out."""

    @property
    def cost(self) -> StepCost:
        """What steps cost with as many adapters as the last plan has: each adds operations to every layer."""
        return self._costs[len(self._adapters)]

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def enqueue(self, sequence: Sequence) -> None:
        """Add to those waiting, in order of arrival."""
        bisect.insort(self.waiting, sequence, key=lambda s: s.request_id)

    def start(self, sequence: Sequence) -> None:
        """Move from waiting to running."""
        self.waiting.remove(sequence)
        bisect.insort(self.running, sequence, key=lambda s: s.request_id)

    def stop(self, sequence: Sequence) -> None:
        """Take out of the running, to end or to wait again."""
        self.running.remove(sequence)

    def find(self, request_id: int) -> Sequence | None:
        return next((s for s in (*self.running, *self.waiting) if s.request_id == request_id), None)

    @property
    def n_streams(self) -> int:
        """Running sequences that decode one token a step."""
        return sum(s.is_decoding for s in self.running)

    @property
    def next_waiting(self) -> Sequence | None:
        """The request to admit next, if there is a slot for it."""
        return self.waiting[0] if self.waiting and len(self.running) < self.n_slots else None

    @property
    def n_cells_promised(self) -> int:
        """Cells that the running sequences need before they can all go on."""
        return sum(s.n_cells_to_come for s in self.running)

    def waits_for_prefix(self, candidate: Sequence, n_matched: int) -> bool:
        """Whether a running prefill will soon leave a longer shared prefix than the one there is now."""
        if candidate.saved is not None:
            return False
        return any(
            s.n_for_others(n_common(candidate.prompt[:-1], s.prompt)) >= n_matched + MIN_SHARED_WAIT
            for s in self.running
            if s.n_past < s.n_prompt and s.request.cache_prompt and s.adapters == candidate.adapters
        )

    def plan(self) -> StepPlan:
        """Choose the next step: every stream, then prompts in order of arrival as far as the chunk goes.

        Only those of the adapter set whose turn it is; but the streams of the others wait for this step too.
        """
        steady = self._steady
        if steady is not None and steady.streams == self.running and all(s.is_decoding for s in self.running):
            return steady
        ready = self._ready()
        streams = [s for s in ready if len(s.tokens) - s.n_past == 1]
        if len(streams) == len(ready):
            plan = StepPlan(self._adapters, streams, [])
            self._steady = plan if len(streams) == len(self.running) else None
            return plan
        room = min(self.cost.chunk(self.n_streams), self.n_batch - len(streams))
        return StepPlan(self._adapters, streams, self._fill((s for s in ready if not s.is_decoding), room))

    def young_s(self, plan: StepPlan) -> float:
        """Return how long newcomers may interrupt a step to join it; together they then stream without a pause."""
        if plan.streams or self.aside is not None or len(self.running) == self.n_slots:
            return 0.0
        is_full = plan.n_chunk < sum(s.n_fitting for s in plan.sequences)
        return 0.0 if is_full else YOUNG_SHARE * self.cost.prefill_s(plan.n_chunk)

    def _ready(self) -> list[Sequence]:
        """Return those of the running whose turn it is, the oldest first."""
        ready = [s for s in self.running if s is not self.aside]
        sets = dict.fromkeys(s.adapters for s in ready)
        if sets:
            self._adapters = self._rota.choose(sets)
        return ready if len(sets) <= 1 else [s for s in ready if s.adapters == self._adapters]

    @staticmethod
    def _fill(prompts: Iterable[Sequence], room: int) -> list[tuple[Sequence, int]]:
        chunks = []
        for sequence in prompts:
            n = min(room, sequence.n_fitting)
            if n <= 0:
                break
            chunks.append((sequence, n))
            room -= n
        return chunks

    def victim(self) -> Sequence | None:
        """Return who gives way: the youngest, if anybody else remains."""
        candidates = [s for s in self.running if s is not self.aside]
        return candidates[-1] if len(candidates) > 1 else None
