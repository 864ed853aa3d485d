"""The engine: one thread that owns the llama.cpp context, and turns requests into events.

Each step: take in commands, admit who may run, make room, evaluate a batch, choose tokens, say what happened. The
engine knows token ids only.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

from localllm.engine import long_prompts
from localllm.engine.adapters import Adapters
from localllm.engine.answers import Answers
from localllm.engine.cells import CellPool
from localllm.engine.context_policy import Policies, why_not
from localllm.engine.counters import Counters, Totals
from localllm.engine.events import ErrorInfo, Event
from localllm.engine.intake import Intake
from localllm.engine.kv_store import KVStore
from localllm.engine.long_prompts import LongPrompts
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.prefix_cache import PrefixCache
from localllm.engine.request import GenerationRequest
from localllm.engine.room import Room
from localllm.engine.runner import Runner
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence
from localllm.engine.speculation.draft_model import DraftModel
from localllm.engine.speculation.lookahead import LookaheadSize
from localllm.engine.speculation.lookahead_planner import FORCED_SIZES
from localllm.engine.speculation.modes import SpecModes
from localllm.engine.speculation.shared_texts import SharedTexts
from localllm.engine.speculation.speculator import Speculator
from localllm.engine.speculation.vocabularies import check_draft_model
from localllm.engine.stats import EngineStats
from localllm.engine.stepper import Stepper
from localllm.engine.visits import Visitor
from localllm.errors import EngineClosed, LocalLLMError
from localllm.hardware.types import LoadPlan, n_branch_ids, n_output_rows, n_sequence_ids
from localllm.llama import AbortFlag, Context, ContextParams, LoraAdapter, Model, shift_facts
from localllm.llama.buffers import Buffer

log = logging.getLogger("localllm.engine")

SAVE_AFTER_S = 1.0
"""Kept prefixes go to disk when the engine has had nothing to do for so long, and when it is closed."""


class _Cancel(NamedTuple):
    request_id: int


class _Close(NamedTuple):
    pass


class _Wake(NamedTuple):
    pass


Command = Sequence | _Cancel | _Close | _Wake


def context_params(plan: LoadPlan, *, can_roll_back: bool) -> ContextParams:
    """Return how the context of a plan is made; a memory that cannot be rolled back has no branches or drafts."""
    n_branches = n_branch_ids(plan.n_slots) if can_roll_back else 0
    return ContextParams(
        n_ctx=plan.n_ctx,
        n_batch=plan.n_batch,
        n_ubatch=plan.n_ubatch,
        n_seq_max=n_sequence_ids(plan.n_slots) + n_branches,
        n_outputs_max=n_output_rows(plan.n_slots) if can_roll_back else None,
        n_threads=plan.n_threads,
        kv_type_k=plan.kv_type_k,
        kv_type_v=plan.kv_type_v,
    )


class Engine:
    """Many requests at once on one model. Its methods may be called from any thread.

    Args:
        model: stays the caller's, to be closed after the engine.
        plan: how large a context, how many slots.
        adapters: loaded LoRA adapters by id, each with its scale where a request does not say. They stay the
            caller's, to be closed after the engine.
        max_host_cache_bytes: RAM for prefixes that left the cache; None: what the plan has for them.
        store: where prefixes go that shall outlive the process.
        adapter_names: what each adapter is, for the store.
        after_step: called on the engine's thread after each step's events.
        visitor: other work for this thread, done between steps; closed with the engine.
        draft_model: proposes tokens; it stays the caller's, to be closed after the engine.
        lookahead_sizes: of the windows of requests that force lookahead, the first that there is room for; meant for
            measurements.

    Raises:
        ModelLoadFailed: no room for a context.
        RequestError: the draft model cannot propose tokens for this model.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        *,
        adapters: Iterable[tuple[LoraAdapter, float]] = (),
        max_host_cache_bytes: int | None = None,
        store: KVStore | None = None,
        adapter_names: SequenceOf[str] = (),
        after_step: Callable[[], None] | None = None,
        visitor: Visitor | None = None,
        draft_model: Model | None = None,
        lookahead_sizes: SequenceOf[LookaheadSize] = FORCED_SIZES,
    ) -> None:
        if draft_model is not None:
            check_draft_model(model, draft_model)
        self._visitor = visitor
        self._vocab = model.vocab
        self._after_step = after_step
        n_seq_max = n_sequence_ids(plan.n_slots)
        n_branches = n_branch_ids(plan.n_slots) if model.can_roll_back else 0
        abort = AbortFlag()
        self._context = Context(
            model,
            context_params(plan, can_roll_back=model.can_roll_back),
            abort_flag=abort,
        )
        self.n_cells = self._context.n_ctx
        self.n_ctx = min(self.n_cells, model.n_ctx_train or self.n_cells)
        self.n_slots = plan.n_slots
        self._pool = CellPool(
            self._context.memory,
            self._context,
            self.n_cells,
            n_seq_max,
            n_branch_ids=n_branches,
            n_window=model.n_window,
        )
        can_cut = model.can_roll_back
        host_bytes = plan.kept_bytes if max_host_cache_bytes is None else max_host_cache_bytes
        self._cache = PrefixCache(self._pool, host_bytes, store, adapter_names, in_whole=not can_cut)
        self._scheduler = Scheduler(plan.n_slots, self._context.n_batch)
        self._room = Room(self._pool, self._cache, self._scheduler, can_cut=can_cut)
        self._totals = Totals()
        self._answers = Answers(
            self._context,
            self._vocab,
            self.n_ctx,
            scheduler=self._scheduler,
            room=self._room,
            totals=self._totals,
            cancel=lambda request_id: self._commands.put(_Cancel(request_id)),
        )
        loaded = Adapters(tuple(adapters))
        facts = shift_facts(model, self._context, plan.kv_type_k)
        policies = Policies(why_not(facts), facts.architecture, self.n_ctx, self._vocab.bos)
        modes = SpecModes(plan.spec, model.can_roll_back, draft_model is not None)
        self._intake = Intake(self._vocab, self.n_ctx, loaded, policies, modes)
        self._draft_model = None if draft_model is None else self._open_draft_model(draft_model, model, plan)
        self._speculator = Speculator(
            modes,
            self._vocab,
            self._draft_model,
            n_branch_ids=n_branches,
            texts=SharedTexts() if plan.shares_texts else None,
            lookahead_sizes=lookahead_sizes,
        )
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._runner = Runner(
            self._context, self._pool, loaded, abort, has_newcomers=lambda: not self._commands.empty()
        )
        self._long_prompts = LongPrompts(
            model,
            plan,
            long_prompts.Engine(
                self._step_and_flush,
                self._listen,
                self._answers.report_progress,
                self._answers.advance,
                self._answers.fail,
            ),
            scheduler=self._scheduler,
            pool=self._pool,
            room=self._room,
            adapters=loaded,
        )
        self._stepper = Stepper(
            self._context,
            self.n_ctx,
            scheduler=self._scheduler,
            room=self._room,
            pool=self._pool,
            cache=self._cache,
            runner=self._runner,
            speculator=self._speculator,
            answers=self._answers,
            long_prompts=self._long_prompts,
            totals=self._totals,
            listen=self._listen,
            can_begin_anew=can_cut,
        )
        self._counters = Counters(self._totals, self._scheduler, self._pool, self._cache, self._room, self._draft_model)
        self._ids = itertools.count(1)
        self._closed = threading.Event()
        self._submit_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="localllm-engine", daemon=True)
        self._thread.start()

    def _open_draft_model(self, draft_model: Model, model: Model, plan: LoadPlan) -> DraftModel:
        try:
            return DraftModel(draft_model, plan, model.size_bytes)
        except LocalLLMError:
            self._context.close()
            raise

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
            RequestError: a value that is not allowed, or a context policy that this model cannot follow.
            EngineClosed: the engine was closed, or failed.
        """
        number = next(self._ids) if request_id is None else request_id
        sequence = self._intake.make_sequence(number, request, sink, constraint, stop)
        with self._submit_lock:
            if self._closed.is_set():
                sequence.close()
                raise EngineClosed("The engine is closed.", hint="Load the model again.")
            self._commands.put(sequence)
        self._runner.make_way()
        return sequence.request_id

    def cancel(self, request_id: int) -> None:
        """End a request with the reason "cancelled", also in the middle of a long prefill."""
        self._commands.put(_Cancel(request_id))
        self._runner.abort(request_id)

    def wake(self) -> None:
        """Say that the visitor may have work now."""
        self._commands.put(_Wake())

    def stats(self) -> EngineStats:
        """Return a snapshot; counts taken while a step runs may be a step apart."""
        return self._counters.snapshot(self._commands.qsize())

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What llama.cpp allocated for the context."""
        return self._context.buffers

    @property
    def is_running(self) -> bool:
        """Whether it takes requests: neither closed nor failed."""
        return not self._closed.is_set()

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

    # The engine's thread.

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._wait_for_work()
                if self._has_work and not self._closed.is_set():
                    self._step_and_flush()
                elif self._after_step is not None:
                    self._after_step()
            self._answers.end_all("cancelled")
            self._cache.close()
        except BaseException:
            log.exception("the engine failed")
            self._answers.end_all("error", ErrorInfo("EngineError", "The engine failed.", "Load the model again."))
        finally:
            self._shut_down()

    def _wait_for_work(self) -> None:
        """Take in commands; where there is nothing to do, save what was kept, and wait."""
        while not self._has_work and self._cache.has_unsaved and not self._closed.is_set():
            if self._take_commands(timeout_s=SAVE_AFTER_S) == 0:
                self._cache.save_one()
        self._take_commands(timeout_s=0.0 if self._has_work or self._closed.is_set() else None)

    def _shut_down(self) -> None:
        with self._submit_lock:
            self._closed.set()
        self._take_commands()
        self._answers.end_all("cancelled")
        if self._visitor is not None:
            self._visitor.close()
        if self._after_step is not None:
            self._after_step()
        if self._draft_model is not None:
            self._draft_model.close()
        self._context.close()

    def _take_commands(self, timeout_s: float | None = 0.0) -> int:
        """Carry out what has been asked, after waiting for it so long; None waits for ever. Return how much it was."""
        n = 0
        if timeout_s == 0.0 and self._commands.empty():
            return n
        with contextlib.suppress(queue.Empty):
            while True:
                command = self._commands.get(timeout=timeout_s) if timeout_s != 0 else self._commands.get_nowait()
                n, timeout_s = n + 1, 0.0
                if isinstance(command, Sequence):
                    self._totals.n_requests += 1
                    self._speculator.enter(command)
                    self._scheduler.enqueue(command)
                elif isinstance(command, _Cancel):
                    sequence = self._scheduler.find(command.request_id)
                    if sequence is not None:
                        self._answers.finish(sequence, "cancelled")
                elif isinstance(command, _Close):
                    break
        return n

    def _listen(self) -> bool:
        self._take_commands()
        return not self._closed.is_set()

    @property
    def _has_work(self) -> bool:
        return self._scheduler.has_work or (self._visitor is not None and self._visitor.has_work)

    def _step_and_flush(self) -> None:
        if self._scheduler.has_work:
            self._stepper.step()
        if self._visitor is not None and self._visitor.has_work:
            self._visitor.visit(self._scheduler.cost.visit_s(self._scheduler.n_streams))
        if self._after_step is not None:
            self._after_step()
