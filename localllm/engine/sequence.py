"""The state of one request inside the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from localllm.engine.adapters import AdapterSet
from localllm.engine.context_policy import Window
from localllm.engine.events import Event, PrefixReuse, Timings, Usage
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.radix_tree import Tokens, as_tokens
from localllm.engine.request import GenerationRequest
from localllm.engine.sampling import Greedy
from localllm.engine.speculation.stream_drafts import StreamDrafts
from localllm.llama import SamplerChain


class SequenceClock:
    """When things happened to a request, in seconds of time.perf_counter; 0.0 is not yet."""

    __slots__ = ("admitted", "ended", "first_token", "submitted")

    def __init__(self, submitted: float) -> None:
        self.submitted = submitted
        self.admitted = 0.0
        self.first_token = 0.0
        self.ended = 0.0


class Sequence:
    """A request on its way: its tokens, how many of them are in the cache, and what chooses the next.

    `tokens` is the prompt and everything generated. The first `n_past` have been computed; the rest is pending: a chunk
    of prompt, or the one token that the last step chose.

    Each computed token has its cell, until the sequence slides: then `n_evicted` of them, those right behind its
    window's head, have none, and the cells of those after them have moved up. So the next position is always `n_cells`.
    """

    __slots__ = (
        "adapters",
        "chain",
        "clock",
        "constraint",
        "generated_eog",
        "n_cached",
        "n_evicted",
        "n_past",
        "n_preemptions",
        "n_prompt",
        "prompt",
        "prompt_stops",
        "request",
        "request_id",
        "reuse",
        "rng",
        "saved",
        "seq_id",
        "sink",
        "speculation",
        "stop",
        "tokens",
        "window",
    )

    def __init__(
        self,
        request_id: int,
        request: GenerationRequest,
        sink: Callable[[Event], None],
        chain: SamplerChain | Greedy,
        constraint: TokenConstraint | None,
        stop: StopCondition | None,
        now: float,
        adapters: AdapterSet = (),
        window: Window | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.sink = sink
        self.adapters = adapters
        self.window = window
        self.chain = chain
        self.rng = rng
        """Draws the tokens from what the chain leaves; None where the chain itself chooses."""
        self.constraint = constraint
        self.stop = stop
        self.tokens = list(request.prompt)
        self.prompt: Tokens = as_tokens(request.prompt)
        self.n_prompt = len(request.prompt)
        self.n_past = 0
        self.n_evicted = 0
        self.n_cached = 0
        self.n_preemptions = 0
        self.prompt_stops: tuple[int, ...] | None = None
        """Where a step through its prompt ends for a checkpoint, rising; None where its cells serve others in part."""
        self.reuse: PrefixReuse | None = None
        self.seq_id: int = -1
        self.saved: NDArray[np.uint8] | None = None
        self.generated_eog = False
        self.speculation: StreamDrafts | None = None
        self.clock = SequenceClock(now)

    @property
    def n_pending(self) -> int:
        """Tokens that have not been computed yet."""
        return len(self.tokens) - self.n_past

    @property
    def n_cells(self) -> int:
        """Cells it holds, at the positions from 0 on; its next token's position."""
        return self.n_past - self.n_evicted

    @property
    def n_fitting(self) -> int:
        """Pending tokens that the next step can take: up to a checkpoint, and sliding where the context is full."""
        if self.prompt_stops:
            return next((stop for stop in self.prompt_stops if stop > self.n_past), len(self.tokens)) - self.n_past
        return self.n_pending if self.window is None else min(self.n_pending, self.window.n_fitting(self.n_cells))

    def n_for_others(self, n_common: int) -> int:
        """Return how many of `n_common` first tokens others can take over from it once its prompt is computed."""
        if self.prompt_stops is None:
            return n_common if self.shows_prompt else 0
        return max((stop for stop in self.prompt_stops if stop <= n_common), default=0)

    @property
    def n_cells_to_come(self) -> int:
        """Cells that it needs beside those it has for everything pending."""
        return self.n_pending if self.window is None else min(self.n_pending, self.window.n_ctx - self.n_cells)

    @property
    def n_prefix(self) -> int:
        """Tokens, from the first on, whose cells are what a fresh computation would leave."""
        return self.n_past if self.window is None or not self.n_evicted else self.window.n_head

    @property
    def shows_prompt(self) -> bool:
        """Whether all of the prompt will be, or is, in the cache as a fresh computation would leave it."""
        return not self.n_evicted and (self.window is None or self.n_prompt <= self.window.n_ctx)

    @property
    def offers_prompt(self) -> bool:
        """Whether all of the prompt is in the cache as a fresh computation would leave it."""
        return self.shows_prompt and self.n_past >= self.n_prompt

    def n_to_evict(self, n_new: int) -> int:
        """Return how many tokens must go before `n_new` can be computed."""
        return 0 if self.window is None else self.window.n_to_evict(self.n_cells, n_new)

    def n_draftable(self, n_ctx: int) -> int:
        """Return how many tokens after the next one the request can still use, in a context of `n_ctx` tokens."""
        n_left = n_ctx - len(self.tokens) + self.n_evicted
        if self.request.max_tokens is not None:
            n_left = min(n_left, self.request.max_tokens - self.n_generated)
        return max(n_left - 1, 0)

    @property
    def is_decoding(self) -> bool:
        """Whether only the last token is pending."""
        return len(self.tokens) - self.n_past == 1

    @property
    def prefix_tokens(self) -> Tokens:
        """The tokens whose cells may serve other sequences: [n_prefix] int32."""
        return as_tokens(self.tokens[: self.n_prefix])

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.n_prompt,
            completion_tokens=self.n_generated + self.generated_eog,
            cached_tokens=self.n_cached,
            evicted_tokens=self.n_evicted,
            speculation=None if self.speculation is None else self.speculation.report,
            cache=self.reuse or PrefixReuse(reused=0, prompt=self.n_prompt, source="none", why="not_started"),
        )

    @property
    def timings(self) -> Timings:
        clock = self.clock
        admitted = clock.admitted or clock.ended
        first = clock.first_token or clock.ended
        prefill_s = first - admitted
        decode_s = clock.ended - first
        n_decoded = max(0, self.usage.completion_tokens - 1)
        return Timings(
            queue_s=admitted - clock.submitted,
            ttft_s=first - clock.submitted if clock.first_token else 0.0,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tok_s=(self.n_prompt - self.n_cached) / prefill_s if clock.first_token and prefill_s > 0 else 0.0,
            decode_tok_s=n_decoded / decode_s if n_decoded and decode_s > 0 else 0.0,
            n_preemptions=self.n_preemptions,
        )

    def close(self) -> None:
        """Free the sampler chains."""
        if self.speculation is not None:
            self.speculation.close()
        if isinstance(self.chain, SamplerChain):
            self.chain.close()
