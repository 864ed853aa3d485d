"""Text that the model makes itself, to calibrate with where there is none like what it is used for.

Drawn at temperature 1 from the whole distribution, several texts at a time. What ends a text for a chat program does
not end it here: the model goes on to the next turn or text, as it has learned to.

Source: Liu et al. 2023, LLM-QAT, section 3.1, which chooses the first tokens greedily; here all are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from localllm.calibrate.corpus import Chunks, Tokens, check_size
from localllm.errors import DecodeFailed
from localllm.llama import Batch, Context, ContextParams, Model, SamplerChain, Vocab

N_LANES = 8
"""Texts that are drawn at once; a wider batch costs little more than a single token."""
NAME = "self"


def sample_chunks(
    model: Model,
    n_ctx: int,
    n_chunks: int,
    n_threads: int,
    seed: int = 0,
    on_chunks: Callable[[int, int], None] = lambda _done, _total: None,
) -> Chunks:
    """Draw chunks from the model; the same arguments give the same tokens.

    Args:
        model: that is to be calibrated.
        n_ctx: tokens of a chunk.
        n_chunks: how many.
        n_threads: of llama.cpp.
        seed: of the draws.
        on_chunks: hears how many are done, and how many there will be.

    Raises:
        RequestError: `n_ctx` or `n_chunks` is out of range.
        ModelLoadFailed, DecodeFailed: llama.cpp failed.
    """
    check_size(n_ctx, n_chunks)
    n_lanes = min(N_LANES, n_chunks)
    params = ContextParams(n_ctx=n_lanes * n_ctx, n_batch=n_lanes, n_seq_max=n_lanes, n_threads=n_threads)
    drawn: list[Tokens] = []
    with Context(model, params) as context:
        while len(drawn) < n_chunks:
            seeds = range(seed + len(drawn), seed + min(len(drawn) + n_lanes, n_chunks))
            drawn.extend(_draw(context, n_ctx, seeds))
            on_chunks(len(drawn), n_chunks)
    return Chunks((NAME,), np.stack(drawn))


def _draw(context: Context, n_ctx: int, seeds: Sequence[int]) -> Tokens:
    """Return one text for each seed: [n_seeds, n_ctx]."""
    tokens = np.empty((len(seeds), n_ctx), dtype=np.int32)
    tokens[:, 0] = _first_token(context.model.vocab)
    batch = Batch(len(seeds))
    context.memory.clear()
    with ExitStack() as stack:
        chains = [stack.enter_context(SamplerChain()) for _ in seeds]
        for chain, seed in zip(chains, seeds, strict=True):
            chain.add_dist(seed)
        for pos in range(n_ctx - 1):
            batch.clear()
            for lane, token in enumerate(tokens[:, pos].tolist()):
                batch.add(token, pos, lane, wants_logits=True)
            if context.decode(batch) != 0:
                raise DecodeFailed("llama.cpp failed to draw text from the model.", hint="Try a smaller --n-ctx.")
            tokens[:, pos + 1] = [chain.sample(context, lane) for lane, chain in enumerate(chains)]
    return tokens


def _first_token(vocab: Vocab) -> int:
    """Return what the model's texts begin with; an end is what precedes one."""
    return next((token for token in (vocab.bos, vocab.eos) if token is not None), 0)
