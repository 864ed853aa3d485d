"""When a long prompt is computed in a context of its own, and how the engine goes on meanwhile.

The contexts are independent, adapters included: while one computes the prompt with its sequence's, the steps in its
pauses may be of any set. This module decides and moves cells; `aside` computes, `pacing` says when to pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localllm.engine import aside
from localllm.engine.adapters import Adapters, AdapterSet
from localllm.engine.cells import CellPool
from localllm.engine.pacing import Profile, Turns
from localllm.engine.room import Room
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.sequence import Sequence
from localllm.errors import DecodeFailed, LocalLLMError
from localllm.hardware import available_ram_bytes
from localllm.hardware.types import LoadPlan
from localllm.llama import Context, Model

log = logging.getLogger("localllm.engine")

_MAX_PROFILES = 8
_MAX_SPARE_BYTES = 64 << 20
"""Memory for a prompt's cells is kept for the next prompt up to this size: the system is slow to give it."""
_MOVE_S = 0.02
"""Seconds to move a prompt's cells, before the streams' next step."""


class Engine(NamedTuple):
    """What the engine does for a prompt that is computed aside."""

    step: Callable[[], None]
    """Run a step of the streams."""
    listen: Callable[[], bool]
    """Take in commands; False when the engine is to be closed."""
    report: Callable[[Sequence, int], None]
    """Say how many of a prompt's tokens are done."""
    advance: Callable[[Sequence, int, Context], None]
    """Choose a sequence's next token from the logits at an index of a context."""
    fail: Callable[[list[Sequence], LocalLLMError], None]


class LongPrompts:
    """Computes long prompts beside running streams.

    Args:
        model: of the engine.
        plan: the engine's.
        engine: what the engine does meanwhile.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        engine: Engine,
        *,
        scheduler: Scheduler,
        pool: CellPool,
        room: Room,
        adapters: Adapters,
    ) -> None:
        self._model = model
        self._plan = plan
        self._engine = engine
        self._scheduler = scheduler
        self._pool = pool
        self._room = room
        self._adapters = adapters
        self._is_possible = plan.n_gpu_layers == 0 and model.can_roll_back
        self._turns = Turns(lambda: scheduler.cost)
        self._profiles: dict[tuple[int, ...], Profile] = {}
        self._spare: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def is_better_aside(self, plan: StepPlan) -> bool:
        """Whether the first prompt of the plan is long, and its chunk too narrow to be computed efficiently."""
        scheduler = self._scheduler
        if not (self._is_possible and plan.chunks and scheduler.n_streams) or scheduler.aside is not None:
            return False
        sequence, n = plan.chunks[0]
        if sequence.n_pending < aside.MIN_TOKENS or n >= aside.TILE_TOKENS or not sequence.shows_prompt:
            return False
        estimate = self._plan.estimate
        needs_bytes = estimate.kv_bytes * len(sequence.tokens) // self._pool.n_cells + estimate.compute_bytes
        return needs_bytes < available_ram_bytes() // 4

    def prefill(self, sequence: Sequence) -> int:
        """Compute a prompt in a context of its own, running the streams in its pauses, and move its cells over.

        Returns:
            How many tokens were computed for it; 0 if it was given up.
        """
        self._scheduler.aside = sequence
        self._turns.begin(self._scheduler.n_streams)
        profile = self._profile(sequence.adapters)
        try:
            side = aside.Aside(self._model, self._plan, len(sequence.tokens), profile, self._breathe, self._spare)
        except LocalLLMError:
            log.info("no room for a second context; prompts are chunked from now on")
            self._is_possible, self._scheduler.aside = False, None
            return 0
        try:
            return self._compute(side, sequence)
        except DecodeFailed as error:
            self._engine.fail([sequence] if sequence.seq_id >= 0 else [], error)
            return 0
        finally:
            self._scheduler.aside = None
            side.close()
            if side.room.nbytes <= _MAX_SPARE_BYTES:
                self._spare = side.room

    def _compute(self, side: aside.Aside, sequence: Sequence) -> int:
        self._adapters.apply(side.context, sequence.adapters)
        n_past = sequence.n_past
        if n_past and not side.start_from(self._pool.save(sequence.seq_id)):
            n_past = 0
        index = side.prefill(sequence, n_past, lambda n: self._engine.report(sequence, n))
        if index is None:
            return 0
        self._breathe(_MOVE_S)
        cells = side.save()
        if sequence.seq_id < 0:
            return 0
        n_computed = sequence.n_pending
        sequence.n_past = len(sequence.tokens)
        self._room.take_over(sequence, cells)
        self._engine.advance(sequence, index, side.context)
        return n_computed

    def _profile(self, adapters: AdapterSet) -> Profile:
        """Return what is known of a batch's operations: there are more with adapters, whatever their scales."""
        key = tuple(number for number, _ in adapters)
        if len(self._profiles) >= _MAX_PROFILES and key not in self._profiles:
            self._profiles.clear()
        return self._profiles.setdefault(key, Profile())

    def _breathe(self, piece_s: float) -> float | None:
        """In a pause of the side context: take in commands, and run the streams when it is their time.

        Args:
            piece_s: seconds until the next pause, if the streams do not run in this one.

        Returns:
            Seconds until it will be their time again; None where the prompt is not wanted any more.
        """
        left_s = self._turns.left_s(self._scheduler.n_streams)
        if left_s > piece_s:
            return left_s
        if not self._engine.listen() or self._scheduler.aside not in self._scheduler.running:
            return None
        self._turns.run(self._engine.step)
        return self._turns.left_s(self._scheduler.n_streams)
