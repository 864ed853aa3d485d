"""Short ways to run the tiny model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from localllm.llama import Batch, Context
from localllm.llama.context import DECODE_OK

PROMPT = (39, 72, 256, 257, 80, 11)


def feed(context: Context, tokens: Sequence[int] = PROMPT, *, pos: int = 0, seq_id: int = 0) -> NDArray[np.float32]:
    """Decode the tokens in one batch and return a copy of the last one's logits."""
    batch = Batch(len(tokens))
    index = batch.add_run(tokens, pos, seq_id, last_wants_logits=True)
    assert context.decode(batch) == DECODE_OK
    return context.logits(index).copy()


def feed_singly(context: Context, tokens: Sequence[int] = PROMPT, *, seq_id: int = 0) -> NDArray[np.float32]:
    """Decode the tokens one a batch and return a copy of the last one's logits."""
    for pos, token in enumerate(tokens):
        logits = feed(context, [token], pos=pos, seq_id=seq_id)
    return logits


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference over the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
