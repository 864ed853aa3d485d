"""A loaded model behind one interface, whether it lives in this process or in a worker process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from localllm.engine.events import Event
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats

Sink = Callable[[Event], None]
"""Called with every event of a request, in order, on a thread of the backend's. It may cancel; it must not block, nor
make a call that waits for the backend (submit, tokenize, stats, close), which would wait for ever."""


class GrammarSpec(msgspec.Struct, frozen=True):
    """A grammar as text: `kind` is "json_schema", "gbnf", "regex" or "lark"."""

    kind: str
    text: str


class TextControls(msgspec.Struct, frozen=True, kw_only=True):
    """What steers a generation by its text."""

    stop: tuple[str, ...] = ()
    grammar: GrammarSpec | None = None


class AdapterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter that was loaded beside the model. Its id is its place among them, from 0."""

    path: str
    name: str
    """The file's, without its ending."""
    scale: float
    """Where a request does not say."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a front end needs to know of a loaded model."""

    path: str
    name: str
    description: str
    """llama.cpp's own words, such as "llama 135M Q4_1"."""
    architecture: str
    n_params: int
    size_bytes: int
    n_vocab: int
    n_ctx: int
    """Tokens that one sequence may have."""
    n_cells: int
    """KV cells in the pool that all sequences share."""
    n_ctx_train: int
    n_slots: int
    n_gpu_layers: int
    kv_type_k: str
    kv_type_v: str
    chat_template: str | None
    bos_text: str
    eos_text: str
    add_bos: bool
    load_s: float
    plan_notes: tuple[str, ...] = ()
    """What the planner reduced and why."""
    adapters: tuple[AdapterInfo, ...] = ()


class Backend(Protocol):
    """What `localllm.LLM`, the command line and the server talk to. All methods may be called from any thread."""

    @property
    def info(self) -> ModelInfo: ...

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return the token ids of `text`; with `parse_special`, text like "<|im_end|>" becomes its control token."""

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes that tokens stand for, control tokens as the vocabulary spells them.

        Raises:
            RequestError: an id is not in the vocabulary.
        """

    def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
        """Queue a request and return its id. Every submitted request ends in exactly one FinishEvent.

        Raises:
            RequestError: the request cannot be done (too long, bad grammar, bad values).
            EngineClosed, WorkerCrashed: there is no engine to do it.
        """

    def cancel(self, request_id: int) -> None:
        """Ask for the request to end with the reason "cancelled"; unknown and ended ids are ignored."""

    def stats(self) -> EngineStats: ...

    def close(self) -> None:
        """End all requests and give all memory back. Closing twice is harmless."""
