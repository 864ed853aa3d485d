"""The engine: one thread that owns the llama.cpp context, and turns requests into events.

Each step: take in commands, admit who may run, make room, evaluate a batch, choose tokens, say what happened. The
engine knows token ids only.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from localllm.engine.cells import CellPool
from localllm.engine.choose import choose_token
from localllm.engine.cost import StepCost
from localllm.engine.events import ErrorInfo, Event, FinishEvent, FinishReason, PrefillProgress, StopCause
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.prefix_cache import NO_MATCH, Match, PrefixCache
from localllm.engine.radix_tree import as_tokens
from localllm.engine.request import GenerationRequest
from localllm.engine.runner import Runner
from localllm.engine.sampling import (
    build_chain,
    check_sampling,
    is_plain_greedy,
    n_history,
    resolve_seed,
)
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.sequence import Sequence
from localllm.engine.stats import EngineStats, Totals
from localllm.errors import ContextLengthExceeded, EngineClosed, LocalLLMError, RequestError
from localllm.hardware.types import LoadPlan, n_sequence_ids
from localllm.llama import AbortFlag, Context, ContextParams, Model, SamplerChain

log = logging.getLogger("localllm.engine")

MAX_LOGPROBS = 20
MAX_IDLE_CELLS = 256
"""While streams run, more idle cells than this move to RAM: they slow every decode (design.md, Facts)."""
RESUME_ROOM = 128
"""A preempted request comes back when there is room for this many more tokens, so that it does not bounce."""


class _Cancel(NamedTuple):
    request_id: int


class _Close(NamedTuple):
    pass


Command = Sequence | _Cancel | _Close


class Engine:
    """Many requests at once on one model. Its methods may be called from any thread.

    Args:
        model: stays the caller's, to be closed after the engine.
        plan: how large a context, how many slots.
        max_host_cache_bytes: RAM for prefixes that left the cache.
        after_step: called on the engine's thread after each step's events.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        *,
        max_host_cache_bytes: int = 1 << 30,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        self._vocab = model.vocab
        self._model = model
        self._after_step = after_step
        n_seq_max = n_sequence_ids(plan.n_slots)
        abort = AbortFlag()
        self._context = Context(
            model,
            ContextParams(
                n_ctx=plan.n_ctx,
                n_batch=plan.n_batch,
                n_ubatch=plan.n_ubatch,
                n_seq_max=n_seq_max,
                n_threads=plan.n_threads,
                kv_type_k=plan.kv_type_k,
                kv_type_v=plan.kv_type_v,
            ),
            abort_flag=abort,
        )
        self.n_cells = self._context.n_ctx
        self.n_ctx = min(self.n_cells, model.n_ctx_train or self.n_cells)
        self.n_slots = plan.n_slots
        self._can_share = model.can_roll_back
        self._pool = CellPool(self._context.memory, self._context, self.n_cells, n_seq_max)
        self._cache = PrefixCache(self._pool, max_host_cache_bytes)
        self._cost = StepCost()
        self._scheduler = Scheduler(plan.n_slots, self._context.n_batch, self._cost)
        self._runner = Runner(self._context, self._pool, abort)
        self._totals = Totals()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._ids = itertools.count(1)
        self._closed = threading.Event()
        self._submit_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="localllm-engine", daemon=True)
        self._thread.start()

    # What any thread may call.

    def submit(
        self,
        request: GenerationRequest,
        sink: Callable[[Event], None],
        *,
        constraint: TokenConstraint | None = None,
        stop: StopCondition | None = None,
        request_id: int | None = None,
    ) -> int:
        """Queue a request and return its id. It ends in exactly one FinishEvent.

        Args:
            request: token ids in, and how to choose the ones that come out.
            sink: called with every event, on the engine's thread; must not block.
            constraint: the allowed next tokens.
            stop: when the text so far ends the generation.
            request_id: for a caller that numbers its requests itself, rising; None lets the engine number them.

        Raises:
            ContextLengthExceeded: the prompt leaves no room for an answer.
            RequestError: a value that is not allowed.
            EngineClosed: the engine was closed, or failed.
        """
        self._check(request)
        number = next(self._ids) if request_id is None else request_id
        sequence = self._make_sequence(number, request, sink, constraint, stop)
        with self._submit_lock:
            if self._closed.is_set():
                sequence.close()
                raise EngineClosed("The engine is closed.", hint="Load the model again.")
            self._commands.put(sequence)
        return sequence.request_id

    def cancel(self, request_id: int) -> None:
        """End a request with the reason "cancelled", also in the middle of a long prefill."""
        self._commands.put(_Cancel(request_id))
        self._runner.abort(request_id)

    def stats(self) -> EngineStats:
        """Return a snapshot; counts taken while a step runs may be a step apart."""
        totals, pool, scheduler = self._totals, self._pool, self._scheduler
        return EngineStats(
            n_running=len(scheduler.running),
            n_waiting=len(scheduler.waiting) + self._commands.qsize(),
            n_cells=self.n_cells,
            n_cells_used=pool.n_used,
            n_cells_used_max=totals.n_cells_used_max,
            n_cells_idle=pool.n_idle,
            n_cached_prefixes=len(self._cache),
            host_cache_bytes=self._cache.host_bytes,
            n_sequence_ids_used=pool.n_ids_used,
            n_samplers=SamplerChain.n_alive,
            n_requests=totals.n_requests,
            n_finished=totals.n_finished,
            n_cancelled=totals.n_cancelled,
            n_preemptions=totals.n_preemptions,
            n_steps=totals.n_steps,
            n_tokens_decoded=totals.n_tokens_decoded,
            n_tokens_prefilled=totals.n_tokens_prefilled,
            n_tokens_cached=totals.n_tokens_cached,
            decode_s=totals.decode_s,
            busy_s=totals.busy_s,
        )

    def clear_cache(self) -> None:
        """Forget all kept prefixes at the next step; meant for measurements."""
        self._totals.clear_cache_requested = True

    def close(self) -> None:
        """Cancel what runs, end the thread and free the context. Closing twice is harmless."""
        with self._submit_lock:
            if not self._closed.is_set():
                self._closed.set()
                self._commands.put(_Close())
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check(self, request: GenerationRequest) -> None:
        n = len(request.prompt)
        if n == 0:
            raise RequestError("The prompt has no tokens.", hint="Give at least one.")
        if n >= self.n_ctx:
            raise ContextLengthExceeded(
                f"The prompt has {n} tokens; the context holds {self.n_ctx}, one of them for the answer.",
                hint="Shorten the prompt or load the model with a larger --n-ctx.",
            )
        if min(request.prompt) < 0 or max(request.prompt) >= self._vocab.n_tokens:
            raise RequestError(
                f"A token id lies outside 0 to {self._vocab.n_tokens - 1}.",
                hint="Use this model's tokenizer.",
            )
        if request.max_tokens is not None and request.max_tokens < 1:
            raise RequestError(f"max_tokens is {request.max_tokens}; it must be 1 or more.", hint="Change max_tokens.")
        if request.n_logprobs is not None and not 0 <= request.n_logprobs <= MAX_LOGPROBS:
            raise RequestError(
                f"{request.n_logprobs} logprobs were asked for; 0 to {MAX_LOGPROBS} are allowed.",
                hint="Ask for fewer.",
            )
        check_sampling(request.sampling, self._vocab.n_tokens)

    def _make_sequence(
        self,
        request_id: int,
        request: GenerationRequest,
        sink: Callable[[Event], None],
        constraint: TokenConstraint | None,
        stop: StopCondition | None,
    ) -> Sequence:
        params = request.sampling
        forbidden = self._vocab.eog_tokens if request.ignore_eos else ()
        chain = None
        if not is_plain_greedy(params, forbidden):
            chain = build_chain(params, self._vocab, resolve_seed(params.seed), forbidden)
            n = n_history(params)
            for token in (
                request.prompt if n < 0 else request.prompt[len(request.prompt) - min(n, len(request.prompt)) :]
            ):
                chain.accept(token)
        return Sequence(request_id, request, sink, chain, constraint, stop, time.perf_counter())

    # The engine's thread.

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._take_commands(block=not self._scheduler.has_work)
                if self._scheduler.has_work and not self._closed.is_set():
                    self._step()
                if self._after_step is not None:
                    self._after_step()
        except BaseException:
            log.exception("the engine failed")
            self._end_all("error", ErrorInfo("EngineError", "The engine failed.", "Load the model again."))
        finally:
            self._shut_down()

    def _shut_down(self) -> None:
        with self._submit_lock:
            self._closed.set()
        self._take_commands(block=False)
        self._end_all("cancelled")
        if self._after_step is not None:
            self._after_step()
        self._context.close()

    def _end_all(self, reason: FinishReason, error: ErrorInfo | None = None) -> None:
        for sequence in (*self._scheduler.running, *self._scheduler.waiting):
            self._finish(sequence, reason, error=error, keep=False)

    def _take_commands(self, *, block: bool) -> None:
        while block or not self._commands.empty():
            command = self._commands.get()
            block = False
            if isinstance(command, Sequence):
                self._totals.n_requests += 1
                self._scheduler.enqueue(command)
            elif isinstance(command, _Cancel):
                sequence = self._scheduler.find(command.request_id)
                if sequence is not None:
                    self._finish(sequence, "cancelled")
            else:
                return

    def _step(self) -> None:
        started = time.perf_counter()
        self._admit()
        plan = self._plan_with_room()
        if plan is None:
            return
        try:
            decode_started = time.perf_counter()
            outputs = self._runner.run(plan)
            decode_s = time.perf_counter() - decode_started
        except LocalLLMError as error:
            self._fail(plan, error)
            return
        if outputs is None:
            self._relieve(plan)
            return
        self._report_prefill(plan)
        for sequence, index in outputs:
            self._advance(sequence, index)
        ended = time.perf_counter()
        self._cost.observe(len(plan.streams), plan.n_chunk, ended - started)
        self._totals.count_step(plan, self._pool.n_used, decode_s, ended - started)

    def _admit(self) -> None:
        if self._totals.clear_cache_requested:
            self._totals.clear_cache_requested = False
            self._cache.clear()
        while (candidate := self._scheduler.next_waiting) is not None:
            match = self._match(candidate)
            if self._scheduler.waits_for_prefix(candidate, match.n) or not self._has_room(candidate, match):
                return
            self._start(candidate, match)

    def _match(self, candidate: Sequence) -> Match:
        if candidate.saved is not None or not candidate.request.cache_prompt or not self._can_share:
            return NO_MATCH
        return self._cache.lookup(candidate.prompt[:-1])

    def _has_room(self, candidate: Sequence, match: Match) -> bool:
        if not self._scheduler.running:
            return True
        pool = self._pool
        n_free = pool.n_free + pool.n_idle - self._scheduler.n_cells_promised
        if candidate.saved is not None:
            return n_free >= candidate.n_past + RESUME_ROOM
        return n_free >= len(candidate.tokens) + 1

    def _start(self, candidate: Sequence, match: Match) -> None:
        if self._pool.n_ids_free == 0:
            self._cache.evict_one(protect=match.entry)
        if match.entry is not None and not match.is_resident:
            self._free_cells(len(match.entry.tokens), protect=match)
        if candidate.saved is not None:
            self._resume(candidate)
        else:
            candidate.seq_id, candidate.n_past = self._cache.use(match)
            candidate.n_cached = candidate.n_past
            candidate.clock.admitted = time.perf_counter()
            self._totals.n_tokens_cached += candidate.n_cached
        self._scheduler.start(candidate)

    def _resume(self, candidate: Sequence) -> None:
        assert candidate.saved is not None
        self._free_cells(candidate.n_past)
        seq_id = self._pool.restore(candidate.saved, candidate.n_past)
        candidate.saved = None
        if seq_id is None:
            seq_id, candidate.n_past = self._pool.allocate(), 0
        candidate.seq_id = seq_id

    def _free_cells(self, n: int, protect: Match = NO_MATCH) -> bool:
        """Evict idle prefixes until `n` cells are free; False if that is not enough."""
        while self._pool.n_free < n:
            if not self._cache.evict_one(protect=protect.entry):
                return False
        return True

    def _plan_with_room(self) -> StepPlan | None:
        """Plan a step for which there are cells: by evicting, then shortening chunks, then preempting the youngest."""
        if self._scheduler.running and self._pool.n_idle > MAX_IDLE_CELLS:
            self._cache.evict_one()
        while True:
            plan = self._scheduler.plan()
            if plan.n_tokens == 0:
                return None
            if plan.n_tokens <= self._pool.n_free or self._free_cells(plan.n_tokens):
                return plan
            room = self._pool.n_free - len(plan.streams)
            if room > 0:
                return StepPlan(plan.streams, _shorten(plan.chunks, room))
            if not self._preempt():
                self._give_up(plan)
                return None

    def _preempt(self) -> bool:
        victim = self._scheduler.victim()
        if victim is None:
            return False
        self._cache.withdraw(victim.seq_id)
        victim.saved = self._pool.save(victim.seq_id) if victim.n_past else None
        self._pool.release(victim.seq_id)
        victim.seq_id = -1
        victim.n_preemptions += 1
        self._totals.n_preemptions += 1
        self._scheduler.stop(victim)
        self._scheduler.enqueue(victim)
        return True

    def _give_up(self, plan: StepPlan) -> None:
        """The only request left has no cells to go on, which the length limits rule out unless cells were lost."""
        for sequence in (*plan.streams, *(s for s, _ in plan.chunks)):
            self._finish(sequence, "length", cause="context_full")

    def _relieve(self, plan: StepPlan) -> None:
        """llama.cpp found no room although cells were free (sliding-window caches), or the run was aborted."""
        self._take_commands(block=False)
        if self._cache.evict_one() or self._preempt():
            return
        if any(s in self._scheduler.running for s in plan.streams):
            self._give_up(plan)

    def _fail(self, plan: StepPlan, error: LocalLLMError) -> None:
        info = ErrorInfo(type(error).__name__, error.message, error.hint)
        for sequence in (*plan.streams, *(s for s, _ in plan.chunks)):
            self._finish(sequence, "error", error=info, keep=False)

    def _report_prefill(self, plan: StepPlan) -> None:
        for sequence, _ in plan.chunks:
            if sequence.n_generated == 0:
                self._emit(
                    sequence,
                    PrefillProgress(sequence.request_id, sequence.n_past, sequence.n_prompt, sequence.n_cached),
                )
            if sequence.n_past >= sequence.n_prompt and sequence.request.cache_prompt and self._can_share:
                self._cache.offer_live(sequence.seq_id, sequence.prompt)

    def _advance(self, sequence: Sequence, index: int) -> None:
        """Choose a sequence's next token, and end the sequence if that was its last."""
        token, event = choose_token(self._context, self._vocab, sequence, index)
        if not sequence.clock.first_token:
            sequence.clock.first_token = time.perf_counter()
        if self._vocab.is_eog(token):
            sequence.generated_eog = True
            self._finish(sequence, "stop", cause="eos")
            return
        sequence.tokens.append(token)
        self._emit(sequence, event)
        request = sequence.request
        if sequence.stop is not None and sequence.stop.feed(event.piece):
            self._finish(sequence, "stop", cause="stop_string")
        elif sequence.constraint is not None and sequence.constraint.is_complete:
            self._finish(sequence, "stop", cause="grammar")
        elif request.max_tokens is not None and sequence.n_generated >= request.max_tokens:
            self._finish(sequence, "length", cause="max_tokens")
        elif len(sequence.tokens) >= self.n_ctx:
            self._finish(sequence, "length", cause="context_full")

    def _finish(
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
            self._leave_cells(sequence, keep=keep and sequence.request.cache_prompt and self._can_share)
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

    def _leave_cells(self, sequence: Sequence, *, keep: bool) -> None:
        if keep:
            self._cache.keep(sequence.seq_id, as_tokens(sequence.tokens[: sequence.n_past]))
        else:
            self._cache.withdraw(sequence.seq_id)
            self._pool.release(sequence.seq_id)
        sequence.seq_id = -1

    def _emit(self, sequence: Sequence, event: Event) -> None:
        try:
            sequence.sink(event)
        except Exception:
            log.exception("a sink failed; its request is cancelled")
            self._commands.put(_Cancel(sequence.request_id))


def _shorten(chunks: list[tuple[Sequence, int]], room: int) -> list[tuple[Sequence, int]]:
    short = []
    for sequence, n in chunks:
        if room > 0:
            short.append((sequence, min(n, room)))
            room -= n
    return short
