"""What comes out of the engine for each sequence: its next tokens, how far its prompt is, and that it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf

from localllm.engine.choose import Drawn, choose_token
from localllm.engine.counters import Totals
from localllm.engine.events import ErrorInfo, Event, FinishEvent, FinishReason, PrefillProgress, StopCause
from localllm.engine.room import Room
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.sequence import Sequence
from localllm.engine.speculation.lookahead import LookaheadStep
from localllm.engine.speculation.rejection import Distribution
from localllm.errors import LocalLLMError
from localllm.llama import Context, Vocab

log = logging.getLogger("localllm.engine")


class Answers:
    """Turns the outputs of steps into events, and ends sequences.

    Args:
        context: the engine's.
        vocab: of the model.
        n_ctx: tokens that a sequence may have, unless it slides.
        cancel: has a request ended whose sink failed.
    """

    def __init__(
        self,
        context: Context,
        vocab: Vocab,
        n_ctx: int,
        *,
        scheduler: Scheduler,
        room: Room,
        totals: Totals,
        cancel: Callable[[int], None],
    ) -> None:
        self._context = context
        self._vocab = vocab
        self._n_ctx = n_ctx
        self._scheduler = scheduler
        self._room = room
        self._totals = totals
        self._cancel = cancel

    def report_prefill(self, plan: StepPlan) -> None:
        """Say how far the prompts of a step are, and offer what is complete to others."""
        for sequence, _ in plan.chunks:
            self.report_progress(sequence, sequence.n_past)
            self._room.offer_prompt(sequence)

    def report_progress(self, sequence: Sequence, n_done: int) -> None:
        """Say how many of a prompt's tokens are done."""
        if sequence.n_generated == 0:
            self._emit(sequence, PrefillProgress(sequence.request_id, n_done, sequence.n_prompt, sequence.n_cached))

    def choose(self, plan: StepPlan, outputs: Iterable[tuple[Sequence, int]]) -> dict[int, int]:
        """Choose the next tokens of a step's sequences; return how much of each one's draft was right, by request id.

        Args:
            plan: of the step.
            outputs: each sequence that has a token to choose, and the index of its logits.
        """
        accepted = {}
        for sequence, index in outputs:
            key = sequence.request_id
            window = plan.windows.get(key)
            accepted[key] = (
                self._verify(sequence, index, plan.drafts.get(key, ()), plan.odds.get(key, ()))
                if window is None
                else self._verify_branches(sequence, index, window)
            )
        return accepted

    def _verify(self, sequence: Sequence, index: int, draft: SequenceOf[int], odds: SequenceOf[Distribution]) -> int:
        """Choose tokens as long as they are the draft's, and the one after; return how many of the draft were."""
        state, n_accepted = sequence.speculation, 0
        if draft and state is not None:
            state.current.n_drafted += len(draft)
        drawn = [Drawn(token, q) for token, q in zip(draft, odds, strict=True)] if odds else []
        self.advance(sequence, index, drawn=drawn[0] if drawn else None)
        while n_accepted < len(draft) and sequence.seq_id >= 0 and sequence.tokens[-1] == draft[n_accepted]:
            n_accepted += 1
            sequence.n_past += 1
            if state is not None:
                state.current.n_accepted += 1
            proposed = drawn[n_accepted] if n_accepted < len(drawn) else None
            self.advance(sequence, index + n_accepted, drawn=proposed)
        if draft and sequence.seq_id >= 0:
            self._room.drop_draft(sequence)
        return n_accepted

    def _verify_branches(self, sequence: Sequence, index: int, window: LookaheadStep) -> int:
        """Choose tokens as long as they are a branch's, and the one after; return how many of the branch were."""
        state, n_accepted = sequence.speculation, 0
        assert state is not None and state.lookahead is not None
        source, lookahead = state.lookahead
        source.n_drafted += window.n_drafted
        matching = list(enumerate(window.branches))
        self.advance(sequence, index)
        while sequence.seq_id >= 0:
            token = sequence.tokens[-1]
            matching = [(b, c) for b, c in matching if n_accepted < len(c) and c[n_accepted] == token]
            if not matching:
                break
            branch = matching[0][0]
            self._room.adopt(sequence, branch)
            n_accepted += 1
            sequence.n_past += 1
            source.n_accepted += 1
            self.advance(sequence, index + window.branch_offset(branch, n_accepted))
        if sequence.seq_id >= 0:
            self._room.prune(sequence)
            rows = (self._context.logits(index + offset) for offset in window.newest_offsets)
            lookahead.learn([int(row.argmax()) for row in rows])
        return n_accepted

    def advance(
        self, sequence: Sequence, index: int, context: Context | None = None, drawn: Drawn | None = None
    ) -> None:
        """Choose a sequence's next token, and end the sequence if that was its last.

        Args:
            sequence: whose turn it is.
            index: of its logits in the last batch.
            context: where that batch was computed; None is the engine's.
            drawn: the token that a draft model proposes.
        """
        try:
            token, event = choose_token(context or self._context, self._vocab, sequence, index, drawn)
        except LocalLLMError as error:
            self.fail([sequence], error)
            return
        if not sequence.clock.first_token:
            sequence.clock.first_token = time.perf_counter()
        if self._vocab.is_eog(token):
            sequence.generated_eog = True
            self.finish(sequence, "stop", cause="eos")
            return
        sequence.tokens.append(token)
        self._emit(sequence, event)
        request = sequence.request
        if sequence.stop is not None and sequence.stop.feed(event.piece):
            self.finish(sequence, "stop", cause="stop_string")
        elif sequence.constraint is not None and sequence.constraint.is_complete:
            self.finish(sequence, "stop", cause="grammar")
        elif request.max_tokens is not None and sequence.n_generated >= request.max_tokens:
            self.finish(sequence, "length", cause="max_tokens")
        elif sequence.window is None and len(sequence.tokens) >= self._n_ctx:
            self.finish(sequence, "length", cause="context_full")

    def fail(self, sequences: Iterable[Sequence], error: LocalLLMError) -> None:
        """End sequences with an error; their cells are not kept."""
        info = ErrorInfo.of(error)
        for sequence in sequences:
            self.finish(sequence, "error", error=info, keep=False)

    def end_running(self) -> None:
        """End what runs because there are no cells for it to go on."""
        for sequence in list(self._scheduler.running):
            self.finish(sequence, "length", cause="context_full")

    def end_all(self, reason: FinishReason, error: ErrorInfo | None = None) -> None:
        """End everything, running and waiting; no cells are kept."""
        for sequence in (*self._scheduler.running, *self._scheduler.waiting):
            self.finish(sequence, reason, error=error, keep=False)

    def finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        *,
        cause: StopCause = "",
        error: ErrorInfo | None = None,
        keep: bool = True,
    ) -> None:
        """Take a sequence out, keep or free its cells, free its sampler, and say that it ended."""
        if sequence.seq_id >= 0:
            self._scheduler.stop(sequence)
            self._room.drop_draft(sequence)
            self._room.leave(sequence, keep=keep)
        else:
            self._scheduler.waiting.remove(sequence)
            sequence.saved = None
        sequence.close()
        sequence.clock.ended = time.perf_counter()
        self._totals.n_finished += 1
        self._totals.n_cancelled += reason == "cancelled"
        self._emit(
            sequence,
            FinishEvent(sequence.request_id, reason, sequence.usage, sequence.timings, cause, error),
        )

    def _emit(self, sequence: Sequence, event: Event) -> None:
        try:
            sequence.sink(event)
        except Exception:
            log.exception("a sink failed; its request is cancelled")
            self._cancel(sequence.request_id)
