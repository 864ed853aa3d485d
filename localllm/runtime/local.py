"""A model loaded in this process."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from localllm.engine.embedder import Embedder
from localllm.engine.engine import Engine
from localllm.engine.events import Event
from localllm.engine.matchers import TokenConstraint
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import TextPooling, VectorsSink
from localllm.engine.visits import VisitorThread
from localllm.errors import EngineClosed
from localllm.gguf import ModelShape
from localllm.hardware.types import AdapterSpec, LoadOptions, LoadPlan
from localllm.runtime import texts
from localllm.runtime.accounting import learn
from localllm.runtime.backend import (
    AdapterInfo,
    EmbedRequest,
    MemoryUse,
    ModelInfo,
    RankRequest,
    TextControls,
    check_tokens,
)
from localllm.runtime.loading import load_model, open_kv_store, open_planner
from localllm.runtime.recovery import open_what_fits
from localllm.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from localllm.chat.grammar import GrammarCompiler
    from localllm.llama import LoraAdapter, Model


class LocalBackend:
    """Loads a model: check the header, plan the memory, load, start the engine. Then builds matchers for its requests.

    Args:
        path: a GGUF file.
        options: what the planner shall respect.
        on_progress: called with the loaded share, 0 to 1; an exception ends the load and is raised.
        after_step: called on the engine's thread after each step's events.

    Raises:
        ModelError, NotEnoughMemory, RequestError: see `open_backend`.
    """

    def __init__(
        self,
        path: Path,
        options: LoadOptions,
        *,
        on_progress: Callable[[float], None] | None = None,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        started = time.perf_counter()
        shape, planner = open_planner(path, options)

        def open_plan(plan: LoadPlan) -> LoadPlan:
            self._open(path, shape, plan, options, on_progress, after_step)
            return plan

        plan = open_what_fits(options, planner, open_plan)
        self._ids = itertools.count(1)
        self._grammars: GrammarCompiler | None = None
        self._idle = threading.Condition()
        self._n_calls = 0
        self._closing = False
        self._pooling = texts.text_pooling(shape.pooling)
        info = self._describe(shape, plan, options, time.perf_counter() - started)
        self._info = msgspec.structs.replace(info, adapters=tuple(map(_describe_adapter, options.adapters)))

    def _open(
        self,
        path: Path,
        shape: ModelShape,
        plan: LoadPlan,
        options: LoadOptions,
        on_progress: Callable[[float], None] | None,
        after_step: Callable[[], None] | None,
    ) -> None:
        """Load what a plan says, and keep what it took; all is freed again where something fails."""
        self._adapters: list[LoraAdapter] = []
        self._draft_model: Model | None = None
        self._model = load_model(path, plan.n_gpu_layers, on_progress)
        try:
            self._load_adapters(options.adapters)
            if options.draft_model is not None:
                self._draft_model = load_model(options.draft_model, plan.n_draft_gpu_layers, None)
            self._start(shape, plan, options, after_step)
        except BaseException:
            self._free()
            raise
        if self._engine is not None and self._draft_model is None:
            learn(shape.architecture, plan, [*self._model.buffers, *self._engine.buffers])

    def _start(
        self, shape: ModelShape, plan: LoadPlan, options: LoadOptions, after_step: Callable[[], None] | None
    ) -> None:
        """Start what computes: an engine, which the embedder visits, or the embedder alone where no text is made."""
        scales = [spec.scale for spec in options.adapters]
        n_ctx, adapters = min(plan.n_ctx, shape.n_ctx_train), list(zip(self._adapters, scales, strict=True))
        self._embedder = Embedder(self._model, plan, adapters=adapters, n_ctx=n_ctx, is_causal=not shape.is_encoder)
        self._engine: Engine | None = None
        if not shape.is_encoder:
            store = open_kv_store(self._model.path, plan, options.kv_store_bytes)
            self._engine = Engine(
                self._model,
                plan,
                adapters=adapters,
                store=store,
                adapter_names=[] if store is None else [fingerprint(spec.path) for spec in options.adapters],
                after_step=after_step,
                visitor=self._embedder,
                draft_model=self._draft_model,
            )
        self._thread = self._engine or VisitorThread(self._embedder, after_step)

    def _describe(self, shape: ModelShape, plan: LoadPlan, options: LoadOptions, load_s: float) -> ModelInfo:
        model, vocab, engine = self._model, self._model.vocab, self._engine
        return ModelInfo(
            path=str(model.path),
            name=model.metadata("general.name") or model.path.stem,
            description=model.description,
            architecture=shape.architecture,
            n_params=model.n_params,
            size_bytes=model.size_bytes,
            n_vocab=vocab.n_tokens,
            n_ctx=self._embedder.n_ctx if engine is None else engine.n_ctx,
            n_cells=0 if engine is None else engine.n_cells,
            n_ctx_train=model.n_ctx_train,
            n_slots=plan.n_slots,
            n_gpu_layers=plan.n_gpu_layers,
            kv_type_k=plan.kv_type_k,
            kv_type_v=plan.kv_type_v,
            chat_template=model.chat_template(),
            bos_text=vocab.text(vocab.bos) if vocab.bos is not None else "",
            eos_text=vocab.text(vocab.eos) if vocab.eos is not None else "",
            add_bos=vocab.add_bos,
            load_s=load_s,
            n_embd=model.n_embd_out,
            capabilities=texts.capabilities(shape),
            memory_bytes=plan.estimate.total_bytes + (plan.kept_bytes if options.max_memory_bytes else 0),
            memory=_memory_use(plan),
            fim=texts.fim_tokens(vocab),
            plan_notes=plan.notes,
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return not self._closing and self._thread.is_running

    @property
    def engine(self) -> Engine:
        """The engine itself, for measurements.

        Raises:
            RequestError: the model makes no text.
        """
        texts.check_can("completion", self._info)
        assert self._engine is not None
        return self._engine

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        with self._in_use():
            return self._model.vocab.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        with self._in_use():
            vocab = self._model.vocab
            check_tokens(tokens, vocab.n_tokens)
            return b"".join(vocab.piece(token, special=True) for token in tokens)

    def submit(
        self,
        request: GenerationRequest,
        controls: TextControls,
        sink: Callable[[Event], None],
        *,
        request_id: int | None = None,
    ) -> int:
        from localllm.chat.stops import StopScanner

        with self._in_use():
            constraint = self._constraint(controls)
            stop = StopScanner(controls.stop) if controls.stop else None
            number = next(self._ids) if request_id is None else request_id
            return self.engine.submit(request, sink, constraint=constraint, stop=stop, request_id=number)

    def embed(self, request: EmbedRequest, sink: VectorsSink, *, request_id: int | None = None) -> int:
        with self._in_use():
            pooling = texts.check_embedding(request, self._info) or self._pooling
            inputs = texts.embedding_inputs(request, self._model.vocab)
            return self._compute(inputs, pooling, sink, request_id)

    def rank(self, request: RankRequest, sink: VectorsSink, *, request_id: int | None = None) -> int:
        with self._in_use():
            texts.check_ranking(request, self._info)
            inputs = texts.ranking_inputs(request, self._model)
            return self._compute(inputs, None, sink, request_id)

    def _compute(
        self, inputs: list[list[int]], pooling: TextPooling | None, sink: VectorsSink, request_id: int | None
    ) -> int:
        number = next(self._ids) if request_id is None else request_id
        self._embedder.submit(inputs, pooling, sink, request_id=number)
        self._thread.wake()
        return number

    def _constraint(self, controls: TextControls) -> TokenConstraint | None:
        constraint: TokenConstraint | None = None
        if controls.grammar is not None:
            grammar = controls.grammar
            constraint = self._compiler().compile(grammar.kind, grammar.text, preamble=grammar.preamble)
        if controls.reasoning is not None:
            from localllm.chat.reasoning import ReasoningBudget

            limit, vocab = controls.reasoning, self._model.vocab
            constraint = ReasoningBudget(
                limit.n_tokens,
                start=limit.start,
                end=limit.end,
                ending=limit.ending,
                is_open=limit.is_open,
                piece=lambda token: vocab.piece(token, special=True),
                inner=constraint,
            )
        return constraint

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep `close` from freeing the model under a call."""
        with self._idle:
            if self._closing:
                raise EngineClosed("The model was closed.", hint="Load it again.")
            self._n_calls += 1
        try:
            yield
        finally:
            with self._idle:
                self._n_calls -= 1
                self._idle.notify_all()

    def _compiler(self) -> GrammarCompiler:
        if self._grammars is None:
            from localllm.chat.grammar import GrammarCompiler
            from localllm.runtime.vocab_view import ModelVocab

            self._grammars = GrammarCompiler(ModelVocab(self._model.vocab))
        return self._grammars

    def cancel(self, request_id: int) -> None:
        self._embedder.cancel(request_id)
        if self._engine is not None:
            self._engine.cancel(request_id)

    def stats(self) -> EngineStats:
        with self._in_use():
            stats, embedder = EngineStats.zero() if self._engine is None else self._engine.stats(), self._embedder
            return msgspec.structs.replace(
                stats,
                n_running=stats.n_running + embedder.n_jobs,
                n_requests=stats.n_requests + embedder.n_requests,
                n_finished=stats.n_finished + embedder.n_finished,
                n_cancelled=stats.n_cancelled + embedder.n_cancelled,
                n_inputs_embedded=embedder.n_inputs_embedded,
                n_tokens_embedded=embedder.n_tokens_embedded,
            )

    def close(self) -> None:
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: self._n_calls == 0)
        self._thread.close()
        with self._idle:
            self._free()

    def _load_adapters(self, specs: Sequence[AdapterSpec]) -> None:
        from localllm.llama import LoraAdapter

        for spec in specs:
            self._adapters.append(LoraAdapter(self._model, spec.path))

    def _free(self) -> None:
        for adapter in self._adapters:
            adapter.close()
        if self._draft_model is not None:
            self._draft_model.close()
        self._model.close()


def _describe_adapter(spec: AdapterSpec) -> AdapterInfo:
    return AdapterInfo(path=str(spec.path), name=spec.path.stem, scale=spec.scale)


def _memory_use(plan: LoadPlan) -> MemoryUse:
    devices = {device.name: size for device, size in zip(plan.devices, plan.device_bytes, strict=False)}
    return MemoryUse(
        weights_bytes=plan.estimate.weights_bytes,
        kv_bytes=plan.estimate.kv_bytes,
        compute_bytes=plan.estimate.compute_bytes,
        ram_bytes=plan.ram_bytes,
        devices=devices,
    )
