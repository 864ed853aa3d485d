"""A small model with the target's vocabulary that proposes tokens, several sequences in one batch.

It has a context of its own, on the engine's thread. What its cache holds of a sequence is compared with the sequence's
tokens whenever it is its turn, and cut where they part (`lanes`): so a rejected draft is rolled back, and a sequence
that was preempted, or had no drafts for a while, is simply behind. Tokens that are missing are computed in bounded
pieces, some with each step; until few are missing, the sequence has no drafts.

It does not know how many tokens are worth proposing, nor whether they were right.

Source: Leviathan et al. 2023; Chen et al. 2023, "Accelerating Large Language Model Decoding with Speculative Sampling".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from localllm.engine.speculation.draft_sampler import Choice, DraftSampler
from localllm.engine.speculation.lanes import Lane, Lanes
from localllm.hardware.types import N_DRAFT_BATCH, LoadPlan
from localllm.llama import Batch, Context, ContextParams, Model
from localllm.llama.context import DECODE_OK

log = logging.getLogger("localllm.engine")

MAX_BEHIND = 16
"""Tokens that may be missing when a draft begins; they are computed with its first."""
_WEIGHT = 0.15
"""Of a new measurement in an average."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A sequence that wants drafts."""

    request_id: int
    tokens: Sequence[int]
    """All of its tokens, in a list that only grows."""
    sampler: DraftSampler


@dataclass(slots=True)
class Ask:
    """How much to propose for one sequence."""

    reader: Reader
    n: int
    """Tokens at most."""
    is_worth: Callable[[float], bool]
    """Whether the next token is wanted, by the draft's confidence in it; asked once for each token, in their order."""
    choices: list[Choice] = field(default_factory=list)
    """What is proposed."""


class DraftModel:
    """The draft model's context.

    Args:
        model: stays the caller's, to be closed after this.
        plan: the target's: cells, slots, KV types and threads are taken from it.
        target_bytes: size of the target's weights. Until something is measured, time is taken to be as the sizes.

    Raises:
        ModelLoadFailed: no room for the context.
    """

    def __init__(self, model: Model, plan: LoadPlan, target_bytes: int) -> None:
        self._context = Context(
            model,
            ContextParams(
                n_ctx=plan.n_ctx,
                n_batch=max(N_DRAFT_BATCH, plan.n_slots),
                n_ubatch=max(N_DRAFT_BATCH, plan.n_slots),
                n_seq_max=plan.n_slots,
                n_threads=plan.n_threads,
                kv_type_k=plan.kv_type_k,
                kv_type_v=plan.kv_type_v,
            ),
        )
        self._vocab = model.vocab
        self._batch = Batch(self._context.n_batch)
        self._lanes = Lanes(self._context.memory, self._context.n_ctx, plan.n_slots)
        self.n_vocab = model.vocab.n_tokens
        self.n_ctx = min(self._context.n_ctx, model.n_ctx_train or self._context.n_ctx)
        """Tokens that a sequence may have here."""
        self._size_ratio = model.size_bytes / max(target_bytes, 1)
        self._proposed_s: dict[int, float] = {}
        self._wasted_s = 0.0
        self._read_s: float | None = None
        self._is_broken = False

    @property
    def n_cells_used(self) -> int:
        return self._lanes.n_used

    def is_behind(self, reader: Reader) -> bool:
        """Whether more tokens are missing than a draft may begin with."""
        return self.n_missing(reader) > MAX_BEHIND

    def n_missing(self, reader: Reader) -> int:
        """Return how many of the tokens must still be computed, the last one included."""
        return len(reader.tokens) - self._lanes.n_held(reader.request_id, reader.tokens)

    def can_read(self, reader: Reader) -> bool:
        """Whether the sequence is short enough, and the model in order."""
        return not self._is_broken and len(reader.tokens) < self.n_ctx

    def token_s(self, n_readers: int, plain_s: float) -> float:
        """Predict the seconds that a proposed token takes, of drafts for `n_readers` sequences at once.

        Args:
            n_readers: sequences.
            plain_s: seconds of the target's step without drafts.
        """
        known = self._proposed_s.get(n_readers)
        return self._size_ratio * plain_s / max(n_readers, 1) if known is None else known

    def read_s(self, plain_s: float) -> float:
        """Predict the seconds that a missing token takes; `plain_s` as for `token_s`."""
        return self._size_ratio * plain_s if self._read_s is None else self._read_s

    def catch_up(self, readers: Iterable[Reader], n_tokens: int) -> None:
        """Compute missing tokens, `n_tokens` at most, of the first sequences that miss some."""
        self._lanes.begin_step()
        self._batch.clear()
        started, room, taken = time.perf_counter(), min(n_tokens, self._batch.capacity), []
        for reader in readers:
            lane = self._lanes.take(reader.request_id, reader.tokens)
            if lane is None:
                break
            missing = reader.tokens[len(lane.tokens) : len(reader.tokens) - 1][:room]
            if missing and self._lanes.make_room(self._batch.n_tokens + len(missing)):
                self._batch.add_run(missing, len(lane.tokens), lane.seq_id, last_wants_logits=False)
                taken.append((lane, missing))
                room -= len(missing)
        if not taken or not self._decode(taken):
            return
        seconds = (time.perf_counter() - started) / self._batch.n_tokens
        self._read_s = _averaged(self._read_s, seconds)

    def draft(self, asks: Sequence[Ask]) -> None:
        """Propose tokens: fill the `choices` of each, with none where there is no room."""
        started = time.perf_counter()
        self._lanes.begin_step()
        live, n_needed = [], 0
        for ask, lane in [(ask, self._lanes.take(ask.reader.request_id, ask.reader.tokens)) for ask in asks]:
            if lane is None:
                continue
            n_new = len(ask.reader.tokens) - len(lane.tokens) + ask.n - 1
            if n_new < MAX_BEHIND + ask.n and self._lanes.make_room(n_needed + n_new):
                live.append((ask, lane))
                n_needed += n_new
        n_readers = len(live)
        while live and (indices := self._advance(live)) is not None:
            live = [(ask, lane) for (ask, lane), index in zip(live, indices, strict=True) if self._choose(ask, index)]
        if n_readers:
            self._learn(n_readers, sum(len(ask.choices) for ask in asks), time.perf_counter() - started)

    def release(self, reader: Reader) -> None:
        """Say that a sequence ended."""
        self._lanes.release(reader.request_id)

    def clear(self) -> None:
        """Forget every sequence."""
        self._lanes.clear()

    def close(self) -> None:
        """Free the context; closing twice is harmless."""
        self._context.close()

    def _advance(self, live: Sequence[tuple[Ask, Lane]]) -> list[int] | None:
        """Compute what is missing of each sequence and its draft; return the indices of the last tokens' logits."""
        self._batch.clear()
        indices, added = [], []
        for ask, lane in live:
            tokens = [*ask.reader.tokens[len(lane.tokens) :]] if not ask.choices else [ask.choices[-1].token]
            indices.append(self._batch.add_run(tokens, len(lane.tokens), lane.seq_id, last_wants_logits=True))
            added.append((lane, tokens))
        return indices if self._decode(added) else None

    def _choose(self, ask: Ask, index: int) -> bool:
        """Propose the next token, if it is worth it; return whether one more is wanted."""
        choice = ask.reader.sampler.choose(self._context.logits(index))
        if not ask.is_worth(choice.confidence):
            return False
        ask.choices.append(choice)
        return len(ask.choices) < ask.n and not self._vocab.is_eog(choice.token)

    def _decode(self, added: Sequence[tuple[Lane, Sequence[int]]]) -> bool:
        """Run the batch and enter its tokens; False where llama.cpp had no room, or failed, which ends all drafts."""
        code = self._context.decode(self._batch)
        if code == DECODE_OK:
            for lane, tokens in added:
                lane.tokens += tokens
            return True
        self._lanes.clear([lane for lane, _ in added])
        if code < 0:
            log.warning("llama.cpp failed to evaluate the draft model (code %d); no more drafts from it", code)
            self._is_broken = True
        return False

    def _learn(self, n_readers: int, n_proposed: int, seconds: float) -> None:
        """Time for drafts that ended before their first token belongs to those that came to something."""
        self._wasted_s += seconds
        if n_proposed:
            old = self._proposed_s.get(n_readers)
            self._proposed_s[n_readers] = _averaged(old, self._wasted_s / n_proposed)
            self._wasted_s = 0.0


def _averaged(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
