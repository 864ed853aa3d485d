"""What happens when a sequence fills its context: it ends, or it slides on (StreamingLLM).

A sequence that slides keeps its first tokens and forgets the oldest of the others; those behind move up, so that
positions stay below `n_ctx` for ever. Attention needs the first tokens ("sinks") even where they say nothing.

Source: Xiao et al. 2024, "Efficient Streaming Language Models with Attention Sinks", section 3.2. We deviate: the
paper rotates keys by their place in the cache when they are read, so that it may forget one token at a time; here they
are stored rotated, and each move costs time and, in quantized caches, precision. So a slide goes far: a quarter of the
window at once.

Keeping the tokens that were attended to most (H2O, Zhang et al. 2023) is not on offer: with one set of cells for all
layers and heads it was worse than sinks, and took twice the time (docs/context.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.engine.request import CONTEXT_POLICIES, GenerationRequest
from localllm.errors import ContextLengthExceeded, RequestError
from localllm.llama import ShiftFacts

MIN_WINDOW = 16
"""The least that slides behind the head."""
_STEPS = 4
"""Slides to the window: as many times a cell is moved before it is forgotten."""
_HADAMARD = 64
"""llama.cpp rotates quantized keys by matrices of at least this width (Hadamard), and moves only such keys."""

_LEARNED_POSITIONS = frozenset({"gpt2", "gptj", "mpt", "starcoder"})
_ALIBI_BY_SIZE = frozenset({"baichuan"})


@dataclass(frozen=True, slots=True)
class Window:
    """How one sequence slides. Counts are of tokens, one cell each."""

    n_head: int
    """The first tokens, which stay."""
    n_ctx: int
    """Cells that the sequence may have."""

    @property
    def n_step(self) -> int:
        """Tokens that a slide forgets."""
        return (self.n_ctx - self.n_head) // _STEPS

    def n_fitting(self, n_cells: int) -> int:
        """Return how many tokens may come next to a sequence of `n_cells` cells, if it slides where it is full."""
        return self.n_ctx - n_cells if n_cells < self.n_ctx else self.n_step

    def n_to_evict(self, n_cells: int, n_new: int) -> int:
        """Return how many tokens behind the head go before `n_new` come; 0 while there is room."""
        return 0 if n_cells + n_new <= self.n_ctx else self.n_step


def why_not(facts: ShiftFacts) -> str | None:
    """Return why sequences of this model cannot slide, as the end of a sentence; None if they can.

    Source: `llama_kv_cache::get_can_shift`, `build_graph_shift` and `build_rope_shift` of the pinned llama.cpp, and
    what they do in practice: each of these would end the process or silently spoil the cache.
    """
    if not facts.can_roll_back:
        return "its recurrent state cannot forget single tokens"
    if facts.architecture in _LEARNED_POSITIONS:
        return "it learned a vector for each position, which is in the cells and cannot be changed"
    if facts.rope == "multi":
        return "its positions have several dimensions (M-RoPE), which llama.cpp cannot shift"
    if facts.architecture in _ALIBI_BY_SIZE and facts.n_layer != 32:
        return "this size has ALiBi, and llama.cpp would rotate its keys all the same"
    if facts.has_indexer:
        return "the index of its sparse attention cannot be moved"
    if not facts.memory_can_shift:
        return "llama.cpp cannot shift its kind of cache"
    return None if facts.rope == "none" else _why_not_rotate(facts)


def _why_not_rotate(facts: ShiftFacts) -> str | None:
    """Return why keys cannot be rotated to another position."""
    if facts.scales_keys:
        return "its rotation scales the keys (YaRN, LongRoPE), and llama.cpp would scale them again at each slide"
    if facts.kv_type_k == "bf16":
        return "llama.cpp cannot rotate keys that are stored as bf16; load it with --kv-type f16"
    if not facts.is_quantized:
        return None
    stored = f"stored as {facts.kv_type_k}; load it with --kv-type f16"
    if facts.head_dim_k % _HADAMARD or facts.head_dim_k_swa != facts.head_dim_k:
        widths = " and ".join(map(str, sorted({facts.head_dim_k, facts.head_dim_k_swa})))
        return f"its keys have {widths} values a head, not one multiple of 64, and are {stored}"
    if facts.n_rot % _hadamard_width(facts.head_dim_k):
        return f"only {facts.n_rot} of the {facts.head_dim_k} values of its keys are rotated, and they are {stored}"
    return None


def _hadamard_width(head_dim_k: int) -> int:
    """Return the largest power of two that divides it (`llama_kv_cache::build_input_k_rot`)."""
    return head_dim_k & -head_dim_k


class Policies:
    """Turns what requests say into windows, for one model and context.

    Args:
        reason: why its sequences cannot slide, or None.
        architecture: of the model.
        n_ctx: cells that one sequence may have.
        bos: the token that begins texts, or None.
    """

    def __init__(self, reason: str | None, architecture: str, n_ctx: int, bos: int | None) -> None:
        self._reason = reason
        self._architecture = architecture
        self._n_ctx = n_ctx
        self._bos = bos

    def window(self, request: GenerationRequest) -> Window | None:
        """Return how the request's sequence slides; None if it ends where the context does.

        Raises:
            RequestError: the model cannot slide, or the policy's numbers are not allowed.
            ContextLengthExceeded: what is to be kept leaves no window.
        """
        if request.context_policy == "error":
            return None
        if request.context_policy not in CONTEXT_POLICIES:
            raise RequestError(
                f"context_policy is {request.context_policy!r}.",
                hint=f"It must be one of {', '.join(CONTEXT_POLICIES)}.",
            )
        if self._reason is not None:
            raise RequestError(
                f"The context policy {request.context_policy} does not work with this model ({self._architecture}):"
                f" {self._reason}.",
                hint="Use the policy error, which ends the answer when the context is full.",
            )
        n_head = self._n_head(request)
        if n_head > self._n_ctx - MIN_WINDOW:
            raise ContextLengthExceeded(
                f"The first {n_head} tokens are to be kept; the context holds {self._n_ctx}, {MIN_WINDOW} of them for"
                " what slides.",
                hint="Keep fewer tokens, or load the model with a larger --n-ctx.",
            )
        return Window(n_head, self._n_ctx)

    def _n_head(self, request: GenerationRequest) -> int:
        n_prompt = len(request.prompt)
        if request.context_policy == "sinks":
            if request.n_sink < 0:
                raise RequestError(f"n_sink is {request.n_sink}; it must be 0 or more.", hint="4 is usual.")
            return request.n_sink
        if request.n_keep is None:
            return int(request.prompt[0] == self._bos)
        return n_prompt if request.n_keep < 0 else min(request.n_keep, n_prompt)
