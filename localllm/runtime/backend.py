"""A loaded model behind one interface, whether it lives in this process or in a worker process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from localllm.engine.events import Event
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import VectorsSink
from localllm.errors import RequestError

Sink = Callable[[Event], None]
"""Called with every event of a request, in order, on a thread of the backend's. It may cancel; it must not block, nor
make a call that waits for the backend (submit, tokenize, stats, close), which would wait for ever."""


class GrammarSpec(msgspec.Struct, frozen=True):
    """A grammar as text: `kind` is "json_schema", "json_object", "gbnf", "regex" or "lark"."""

    kind: str
    text: str = ""
    preamble: str = ""
    """A Lark grammar of what comes before the grammar's text; "" for nothing."""


class ReasoningLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens a model may think, and how it is made to end."""

    n_tokens: int
    start: str
    """The text that begins the reasoning."""
    end: str
    """The text that ends it."""
    ending: tuple[int, ...]
    """The tokens that the model is made to say when it has thought enough."""
    is_open: bool
    """Whether the prompt has begun the reasoning."""


class TextControls(msgspec.Struct, frozen=True, kw_only=True):
    """What steers a generation by its text."""

    stop: tuple[str, ...] = ()
    grammar: GrammarSpec | None = None
    reasoning: ReasoningLimit | None = None


class AdapterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter that was loaded beside the model. Its id is its place among them, from 0."""

    path: str
    name: str
    """The file's, without its ending."""
    scale: float
    """Where a request does not say."""


class FimTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The control tokens of fill-in-the-middle."""

    pre: int
    """Before the text left of the gap."""
    suf: int
    """Before the text right of it."""
    mid: int
    """Before what belongs in the gap."""
    rep: int | None = None
    """Before a repository's name."""
    sep: int | None = None
    """Before the name of each of its files."""


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's memory is, and what for; bytes, as planned."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    ram_bytes: int
    """What of them is in the computer's own memory ..."""
    devices: dict[str, int]
    """... and on each device, by its name."""


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
    capabilities: tuple[str, ...] = ("completion", "chat")
    """What it can be asked for, of "completion", "chat", "embedding" and "rerank"."""
    memory_bytes: int = 0
    """Planned for weights, KV and compute, all devices together."""
    memory: MemoryUse | None = None
    n_embd: int = 0
    """Width of an embedding."""
    fim: FimTokens | None = None
    """None: the model was not trained to fill gaps."""
    plan_notes: tuple[str, ...] = ()
    """What the planner reduced and why."""
    adapters: tuple[AdapterInfo, ...] = ()


class EmbedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts, or their token ids, of which each shall become a vector."""

    inputs: tuple[str | tuple[int, ...], ...]
    """A text gets the special tokens that the model expects around it; what looks like one in it is text."""
    pooling: str | None = None
    """"mean", "cls" or "last"; None is the model's own way; the mean, where it has none."""


class RankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and documents that may answer it."""

    query: str
    documents: tuple[str, ...]


class Backend(Protocol):
    """What `localllm.LLM`, the command line and the server talk to. All methods may be called from any thread."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def is_alive(self) -> bool:
        """Whether requests can still be submitted: not closed, and its worker process has not ended."""

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

    def embed(self, request: EmbedRequest, sink: VectorsSink) -> int:
        """Queue texts and return the request's id. It ends in exactly one VectorsEvent, of a vector for each text.

        Raises:
            ContextLengthExceeded: a text is too long.
            RequestError: the model does not embed, or an input is empty or not the model's.
            EngineClosed, WorkerCrashed: there is nobody to do it.
        """

    def rank(self, request: RankRequest, sink: VectorsSink) -> int:
        """Queue documents and return the request's id. It ends in exactly one VectorsEvent, of a score for each.

        Raises:
            RequestError: as `embed`; also for a model that does not rank.
            EngineClosed, WorkerCrashed: there is nobody to do it.
        """

    def cancel(self, request_id: int) -> None:
        """Ask for the request to end with the reason "cancelled"; unknown and ended ids are ignored."""

    def stats(self) -> EngineStats: ...

    def close(self) -> None:
        """End all requests and give all memory back. Closing twice is harmless."""


def check_tokens(tokens: Sequence[int], n_vocab: int) -> None:
    """Check that ids are of a vocabulary of `n_vocab` tokens; llama.cpp ends the process over others.

    Raises:
        RequestError: one is not.
    """
    if tokens and not 0 <= min(tokens) <= max(tokens) < n_vocab:
        raise RequestError(f"A token id lies outside 0 to {n_vocab - 1}.", hint="Use this model's tokenizer.")
