"""Cells for everybody: who may start, what is evicted, who gives way."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from localllm.engine.cells import CellPool
from localllm.engine.events import PrefixReuse
from localllm.engine.kept import MIN_KEPT, NO_MATCH, Match, explain
from localllm.engine.prefix_cache import PrefixCache
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.sequence import Sequence
from localllm.errors import DecodeFailed

MAX_IDLE_CELLS = 256
"""While streams run, more idle cells than this move to RAM: they slow every decode (design.md, Facts)."""
RESUME_ROOM = 128
"""A preempted request comes back when there is room for this many more tokens, so that it does not bounce."""


class Room:
    """Starts sequences with the longest kept prefix, and finds cells for each step.

    In order: evict idle prefixes, shorten the chunks of prompts, preempt the youngest sequence. A preempted sequence's
    cells wait in RAM and come back bit for bit, so it goes on with the tokens it would have had.

    Where a memory cannot be cut (`can_cut` False), checkpoints are kept instead of cells: before the last token of a
    prompt, so that it can be answered again; where a prompt leaves the nearest kept one, since two that branch there
    make a third likely (Pan et al. 2024, Marconi, section 4.1); and at the end of an answer.
    """

    def __init__(self, pool: CellPool, cache: PrefixCache, scheduler: Scheduler, *, can_cut: bool) -> None:
        self._pool = pool
        self._cache = cache
        self._scheduler = scheduler
        self._can_cut = can_cut
        self.n_preemptions = 0
        self.n_tokens_evicted = 0

    def admit(self) -> int:
        """Start those waiting for whom there is a slot and room; return how many prompt tokens were reused."""
        n_reused = 0
        while (candidate := self._scheduler.next_waiting) is not None:
            match = self._match(candidate)
            if self._scheduler.waits_for_prefix(candidate, match.n) or not self._has_room(candidate):
                break
            n_reused += self._start(candidate, match)
        return n_reused

    def plan_step(self) -> StepPlan | None:
        """Return a step for which there are cells.

        None where nothing can run: the only request left has no cells to go on.
        """
        if self._scheduler.running and self._pool.n_idle > MAX_IDLE_CELLS:
            self._cache.evict_one()
        while True:
            plan = self._scheduler.plan()
            if self._free_cells(self._n_needed(plan)):
                return plan
            room = self._pool.n_free - (self._n_needed(plan) - plan.n_chunk)
            short = StepPlan(plan.adapters, plan.streams, _shorten(plan.chunks, room))
            if (room > 0 or not plan.chunks) and self._n_needed(short) <= self._pool.n_free:
                return short
            if not self.preempt():
                return None

    def slide(self, plan: StepPlan) -> bool:
        """Let the sequences of a plan whose contexts are full forget their oldest tokens; return whether any did.

        The plan must be run next: until then llama.cpp has not moved the keys.

        Raises:
            DecodeFailed: llama.cpp could not copy cells that others share.
        """
        slides = sorted(self._slides(plan), key=lambda slide: slide[2])
        for sequence, n, _ in slides:
            assert sequence.window is not None
            self._cache.withdraw(sequence.seq_id)
            if not self._pool.slide(sequence.seq_id, sequence.window.n_head, n):
                raise DecodeFailed("llama.cpp failed to copy the cells of a full context.", hint="Try it again.")
            sequence.n_evicted += n
            self.n_tokens_evicted += n
        return bool(slides)

    def _n_needed(self, plan: StepPlan) -> int:
        """Return how many free cells a plan takes; slides come first, and may give some back."""
        return plan.n_tokens + sum(cost for _, _, cost in self._slides(plan))

    def _slides(self, plan: StepPlan) -> list[tuple[Sequence, int, int]]:
        """Return the sequences that must slide first, how many tokens each forgets, and the free cells it takes."""
        slides = []
        for sequence, n_new in plan:
            if sequence.window is not None and (n := sequence.n_to_evict(n_new)):
                slides.append((sequence, n, self._pool.slide_cost(sequence.seq_id, sequence.window.n_head, n)))
        return slides

    def relieve(self) -> bool:
        """Make room after llama.cpp found none although cells were free; False if nobody can give way."""
        return self._cache.evict_one() or self.preempt()

    def offer_prompt(self, sequence: Sequence) -> None:
        """Let others share a running sequence's prompt, if all of it is in the cache, or a checkpoint in it."""
        if sequence.prompt_stops and sequence.n_past in sequence.prompt_stops:
            self._cache.keep_copy(sequence.seq_id, sequence.adapters, sequence.prefix_tokens)
        elif self._can_cut and sequence.request.cache_prompt and sequence.offers_prompt:
            self._cache.offer_live(sequence.seq_id, sequence.adapters, sequence.prompt)

    def drop_draft(self, sequence: Sequence) -> None:
        """Free the cells of draft tokens that the sequence did not take."""
        if self._pool.length(sequence.seq_id) > sequence.n_cells:
            self._pool.shrink(sequence.seq_id, sequence.n_cells)

    def adopt(self, sequence: Sequence, branch: int) -> None:
        """The next cell of a branch, whose token the sequence has chosen, becomes the sequence's."""
        self._pool.adopt(sequence.seq_id, branch)

    def prune(self, sequence: Sequence) -> None:
        """Free the cells of the sequence's branches."""
        self._pool.prune(sequence.seq_id)

    def leave(self, sequence: Sequence, *, keep: bool) -> None:
        """Take a running sequence's cells: keep them for the next that starts alike, or free them."""
        keep = keep and sequence.request.cache_prompt
        if keep and self._can_cut:
            self._pool.shrink(sequence.seq_id, sequence.n_prefix)
            self._cache.keep(sequence.seq_id, sequence.adapters, sequence.prefix_tokens)
        else:
            # An aborted prompt's state may be ahead of its books; an answer's never is.
            if keep and sequence.n_generated and sequence.is_decoding:
                self._cache.keep_copy(sequence.seq_id, sequence.adapters, sequence.prefix_tokens)
            self._cache.withdraw(sequence.seq_id)
            self._pool.release(sequence.seq_id)
        sequence.seq_id = -1

    def preempt(self) -> bool:
        """Move the youngest sequence's cells to RAM and let it wait again; False if only one runs."""
        victim = self._scheduler.victim()
        if victim is None:
            return False
        victim.n_preemptions += 1
        self.n_preemptions += 1
        self.move_to_ram(victim, self._pool.save(victim.seq_id) if victim.n_past else None)
        return True

    def move_to_ram(self, sequence: Sequence, cells: NDArray[np.uint8] | None) -> None:
        """Let a running sequence wait, with its cells as `cells` in RAM; None if it has none."""
        self._cache.withdraw(sequence.seq_id)
        self._pool.release(sequence.seq_id)
        sequence.seq_id = -1
        sequence.saved = cells
        self._scheduler.stop(sequence)
        self._scheduler.enqueue(sequence)

    def take_over(self, sequence: Sequence, cells: NDArray[np.uint8]) -> None:
        """Let a running sequence go on with cells that were computed elsewhere; where there is no room, it waits.

        `cells` are the caller's again when this returns.
        """
        self.move_to_ram(sequence, cells)
        if self._scheduler.next_waiting is sequence and self._has_room(sequence):
            self._start(sequence, NO_MATCH)
        else:
            sequence.saved = cells.copy()

    def _match(self, candidate: Sequence) -> Match:
        if candidate.saved is not None or not candidate.request.cache_prompt:
            return NO_MATCH
        return self._cache.lookup(candidate.adapters, candidate.prompt[:-1])

    def _has_room(self, candidate: Sequence) -> bool:
        if not self._scheduler.running:
            return True
        n_free = self._pool.n_free + self._pool.n_idle - self._scheduler.n_cells_promised
        if candidate.saved is not None:
            return n_free >= candidate.n_cells + RESUME_ROOM
        return n_free >= min(candidate.n_cells_to_come + 1, self._pool.n_cells)

    def _start(self, candidate: Sequence, match: Match) -> int:
        if self._pool.n_ids_free == 0:
            self._cache.evict_one(protect=match.entry)
        if candidate.saved is not None:
            self._resume(candidate)
            n_reused = 0
        else:
            if match.entry is not None and not match.is_resident:
                self._free_cells(len(match.entry.tokens), protect=match)
            n_reused = self._use(candidate, match)
            candidate.clock.admitted = candidate.clock.admitted or time.perf_counter()
        self._scheduler.start(candidate)
        return n_reused

    def _use(self, candidate: Sequence, match: Match) -> int:
        """Give a new sequence what is kept for it, and note how it can be kept for others."""
        source = "none" if match.entry is None else match.entry.source
        candidate.seq_id, n = self._cache.use(match)
        candidate.n_past = candidate.n_cached = n
        n_prompt = candidate.n_prompt
        if not candidate.request.cache_prompt:
            candidate.reuse = PrefixReuse(reused=0, prompt=n_prompt, source="none", why="disabled")
            return 0
        can_cut = self._can_cut and not self._pool.n_window
        candidate.reuse = explain(n_prompt, n, match, source, can_cut=can_cut)
        if not self._can_cut:
            stops = sorted({match.n_shared, n_prompt - 1})
            candidate.prompt_stops = tuple(stop for stop in stops if stop > n and stop >= MIN_KEPT)
        return n

    def _resume(self, candidate: Sequence) -> None:
        assert candidate.saved is not None
        self._free_cells(candidate.n_cells)
        seq_id = self._pool.restore(candidate.saved, candidate.n_cells)
        candidate.saved = None
        if seq_id is None:
            seq_id, candidate.n_past, candidate.n_evicted = self._pool.allocate(), 0, 0
        candidate.seq_id = seq_id
        self.offer_prompt(candidate)

    def _free_cells(self, n: int, protect: Match = NO_MATCH) -> bool:
        """Evict idle prefixes until `n` cells are free; False if that is not enough."""
        while self._pool.n_free < n:
            if not self._cache.evict_one(protect=protect.entry):
                return False
        return True


def _shorten(chunks: list[tuple[Sequence, int]], room: int) -> list[tuple[Sequence, int]]:
    short = []
    for sequence, n in chunks:
        if room > 0:
            short.append((sequence, min(n, room)))
            room -= n
    return short
