"""From a request to a sequence that can run: checks everything that llama.cpp would misread or abort on."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from localllm.engine.adapters import Adapters
from localllm.engine.context_policy import Policies
from localllm.engine.events import Event
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.request import GenerationRequest
from localllm.engine.sampling import (
    Greedy,
    all_bias,
    bounded,
    build_chain,
    check_sampling,
    is_greedy,
    n_history,
    resolve_seed,
)
from localllm.engine.sequence import Sequence
from localllm.engine.speculation.modes import SpecModes
from localllm.errors import ContextLengthExceeded, RequestError
from localllm.llama import SamplerChain, Vocab

MAX_LOGPROBS = 20


class Intake:
    """Makes sequences for a model of this vocabulary and a context of `n_ctx` tokens a sequence."""

    def __init__(self, vocab: Vocab, n_ctx: int, adapters: Adapters, policies: Policies, modes: SpecModes) -> None:
        self._vocab = vocab
        self._policies = policies
        self._adapters = adapters
        self._n_ctx = n_ctx
        self._modes = modes

    def make_sequence(
        self,
        request_id: int,
        request: GenerationRequest,
        sink: Callable[[Event], None],
        constraint: TokenConstraint | None,
        stop: StopCondition | None,
    ) -> Sequence:
        """Check the request and build its sampler chain.

        Raises:
            ContextLengthExceeded: the prompt leaves no room for an answer.
            RequestError: a value that is not allowed, or a draft model is asked for and there is none.
        """
        self._check_prompt(request.prompt)
        window = self._policies.window(request)
        if window is None:
            self._check_length(request.prompt)
        _check_limits(request)
        self._modes.of(request)
        check_sampling(request.sampling, self._vocab.n_tokens)
        adapters = self._adapters.resolve(request.lora)
        draws = self._modes.draws_by_ratio(request)
        rng = np.random.default_rng(resolve_seed(None)) if draws else None
        chain = self._build_chain(request, draws=not draws)
        return Sequence(request_id, request, sink, chain, constraint, stop, time.perf_counter(), adapters, window, rng)

    def _check_prompt(self, prompt: tuple[int, ...]) -> None:
        if not prompt:
            raise RequestError("The prompt has no tokens.", hint="Give at least one.")
        if min(prompt) < 0 or max(prompt) >= self._vocab.n_tokens:
            raise RequestError(
                f"A token id lies outside 0 to {self._vocab.n_tokens - 1}.", hint="Use this model's tokenizer."
            )

    def _check_length(self, prompt: tuple[int, ...]) -> None:
        if len(prompt) >= self._n_ctx:
            raise ContextLengthExceeded(
                f"The prompt has {len(prompt)} tokens; the context holds {self._n_ctx}, one of them for the answer.",
                hint="Shorten the prompt, load the model with a larger --n-ctx, or let the context slide with"
                " --context-policy sinks.",
            )

    def _build_chain(self, request: GenerationRequest, *, draws: bool) -> SamplerChain | Greedy:
        """Return what chooses: a chain, told of the prompt as far as its penalties look back, unless argmax does."""
        params = bounded(request.sampling, self._n_ctx)
        forbidden = self._vocab.eog_tokens if request.ignore_eos else ()
        if is_greedy(params):
            return Greedy(all_bias(params, forbidden))
        chain = build_chain(params, self._vocab, resolve_seed(params.seed), forbidden, draws=draws)
        for token in request.prompt[max(0, len(request.prompt) - n_history(params)) :]:
            chain.accept(token)
        return chain


def _check_limits(request: GenerationRequest) -> None:
    if request.max_tokens is not None and request.max_tokens < 1:
        raise RequestError(f"max_tokens is {request.max_tokens}; it must be 1 or more.", hint="Change max_tokens.")
    if request.n_logprobs is not None and not 0 <= request.n_logprobs <= MAX_LOGPROBS:
        raise RequestError(
            f"{request.n_logprobs} logprobs were asked for; 0 to {MAX_LOGPROBS} are allowed.", hint="Ask for fewer."
        )
