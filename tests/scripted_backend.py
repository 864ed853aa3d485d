"""A backend that says what it is told to: byte-level tokens (a token's id is its byte), no model, no waiting."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from localllm.engine.events import (
    ErrorInfo,
    FinishEvent,
    FinishReason,
    PrefillProgress,
    StopCause,
    Timings,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import VectorsEvent, VectorsSink
from localllm.errors import ContextLengthExceeded, EngineClosed, RequestError
from localllm.runtime.backend import EmbedRequest, ModelInfo, RankRequest, Sink, TextControls, check_tokens

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


N_EMBD = 8
FIRST_VECTOR_ID = 1_000_000


def byte_share(data: bytes, column: int) -> float:
    """Return one number of an input's vector: how many of its bytes are `column` modulo the width."""
    return float(sum(byte % N_EMBD == column for byte in data))


@dataclass(frozen=True)
class Script:
    """One answer.

    With `error`, the request ends in it after the answer. With `endless`, the answer repeats until cancelled.
    """

    answer: str | bytes = "Hello!"
    delay_s: float = 0.0
    error: ErrorInfo | None = None
    endless: bool = False
    n_progress: int = 1
    n_evicted: int = 0

    @property
    def data(self) -> bytes:
        return self.answer.encode() if isinstance(self.answer, str) else self.answer


def crash(answer: str = "") -> Script:
    """The worker ends in the middle of an answer."""
    return Script(answer, error=ErrorInfo("WorkerCrashed", "The worker process ended (signal 6).", "Try again."))


def model_info(**changes: object) -> ModelInfo:
    values: dict[str, object] = {
        "path": "/models/scripted.gguf",
        "name": "scripted",
        "description": "scripted 0B",
        "architecture": "scripted",
        "n_params": 0,
        "size_bytes": 0,
        "n_vocab": 256,
        "n_ctx": 4096,
        "n_cells": 4096,
        "n_ctx_train": 4096,
        "n_slots": 4,
        "n_gpu_layers": 0,
        "kv_type_k": "f16",
        "kv_type_v": "f16",
        "chat_template": CHAT_TEMPLATE,
        "bos_text": "",
        "eos_text": "",
        "add_bos": False,
        "load_s": 0.25,
        "n_embd": N_EMBD,
        "capabilities": ("completion", "chat", "embedding", "rerank"),
    }
    return ModelInfo(**(values | changes))  # type: ignore[arg-type]


@dataclass
class Call:
    """What one submit asked for."""

    request: GenerationRequest
    controls: TextControls
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def prompt_text(self) -> str:
        return bytes(self.request.prompt).decode()


class ScriptedBackend:
    """A `localllm.runtime.backend.Backend`; each request takes the next script, and the last one for ever."""

    def __init__(self, *scripts: Script | str, **info: object) -> None:
        made = [script if isinstance(script, Script) else Script(script) for script in scripts or ("Hello!",)]
        self._scripts: Iterator[Script] = itertools.chain(made, itertools.repeat(made[-1]))
        self._info = model_info(**info)
        self._cached: tuple[int, ...] = ()
        self.calls: list[Call] = []
        self.threads: list[threading.Thread] = []
        self.closed = False
        self.vector_requests: list[EmbedRequest | RankRequest] = []
        self.answers_vectors = True
        """Whether requests for vectors are answered at once; else they are left waiting."""
        self.cancelled_ids: list[int] = []

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return not self.closed

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        check_tokens(tokens, self._info.n_vocab)
        return bytes(tokens)

    def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
        if self.closed:
            raise EngineClosed("The engine was shut down.")
        n_prompt = len(request.prompt)
        if n_prompt >= self._info.n_ctx:
            raise ContextLengthExceeded(
                f"The prompt has {n_prompt} tokens, the context {self._info.n_ctx}.", hint="Raise n_ctx."
            )
        call = Call(request, controls)
        self.calls.append(call)
        request_id = len(self.calls)
        thread = threading.Thread(target=self._answer, args=(request_id, call, next(self._scripts), sink), daemon=True)
        self.threads.append(thread)
        thread.start()
        return request_id

    def embed(self, request: EmbedRequest, sink: VectorsSink) -> int:
        tokens = [text.encode() if isinstance(text, str) else _as_bytes(text) for text in request.inputs]
        vectors = np.array([[byte_share(data, column) for column in range(N_EMBD)] for data in tokens], np.float32)
        return self._answer_vectors(request, sink, vectors, tokens)

    def rank(self, request: RankRequest, sink: VectorsSink) -> int:
        tokens = [(request.query + document).encode() for document in request.documents]
        scores = np.array([[document.count(request.query)] for document in request.documents], np.float32)
        return self._answer_vectors(request, sink, scores, tokens)

    def _answer_vectors(
        self, request: EmbedRequest | RankRequest, sink: VectorsSink, vectors: NDArray[np.float32], tokens: list[bytes]
    ) -> int:
        self.vector_requests.append(request)
        request_id = FIRST_VECTOR_ID + len(self.vector_requests)
        n_tokens, width = tuple(map(len, tokens)), vectors.shape[1]
        if self.answers_vectors:
            sink(VectorsEvent(request_id=request_id, n_tokens=n_tokens, width=width, data=vectors.tobytes()))
        return request_id

    def cancel(self, request_id: int) -> None:
        self.cancelled_ids.append(request_id)
        if 1 <= request_id <= len(self.calls):
            self.calls[request_id - 1].cancelled.set()

    def stats(self) -> EngineStats:
        counts = dict.fromkeys(EngineStats.__struct_fields__, 0)
        return EngineStats(**(counts | {"n_requests": len(self.calls), "n_cells": self._info.n_cells}))

    def close(self) -> None:
        self.closed = True
        for call in self.calls:
            call.cancelled.set()

    def _answer(self, request_id: int, call: Call, script: Script, sink: Sink) -> None:
        prompt = call.request.prompt
        n_cached = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(prompt, self._cached, strict=False))
        )
        self._cached = prompt
        for step in range(1, script.n_progress + 1):
            n_done = n_cached + (len(prompt) - n_cached) * step // script.n_progress
            sink(PrefillProgress(request_id, n_done, len(prompt), n_cached))
        said = bytearray()
        reason, cause = self._speak(request_id, call, script, sink, said)
        if script.error is not None and reason != "cancelled":
            reason, cause = "error", ""
        usage = Usage(
            prompt_tokens=len(prompt),
            completion_tokens=len(said),
            cached_tokens=n_cached,
            evicted_tokens=script.n_evicted,
        )
        timings = Timings(
            queue_s=0.0, ttft_s=0.08, prefill_s=0.08, decode_s=0.5, prefill_tok_s=400.0, decode_tok_s=152.0
        )
        error = script.error if reason == "error" else None
        sink(FinishEvent(request_id, reason, usage, timings, cause, error))

    def _speak(
        self, request_id: int, call: Call, script: Script, sink: Sink, said: bytearray
    ) -> tuple[FinishReason, StopCause]:
        limit = call.request.max_tokens
        stops = [stop.encode() for stop in call.controls.stop]
        for token in itertools.cycle(script.data) if script.endless else script.data:
            if script.delay_s or script.endless:
                time.sleep(script.delay_s or 0.001)
            if call.cancelled.is_set():
                return "cancelled", ""
            if limit is not None and len(said) >= limit:
                return "length", "max_tokens"
            said.append(token)
            sink(self._token_event(request_id, token, call.request))
            if any(said.endswith(stop) for stop in stops):
                return "stop", "stop_string"
        return "stop", "eos"

    @staticmethod
    def _token_event(request_id: int, token: int, request: GenerationRequest) -> TokenEvent:
        piece = bytes([token])
        if request.n_logprobs is None:
            return TokenEvent(request_id, token, piece)
        top = tuple(TokenLogprob(token, piece, -0.5 - rank) for rank in range(request.n_logprobs))
        return TokenEvent(request_id, token, piece, -0.5, top)


def _as_bytes(tokens: Sequence[int]) -> bytes:
    if not all(0 <= token < 256 for token in tokens):
        raise RequestError("A token is not in the vocabulary.")
    return bytes(tokens)
