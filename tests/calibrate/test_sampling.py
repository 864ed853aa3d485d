"""Text drawn from the model itself."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.calibrate import sample_chunks
from localllm.errors import RequestError
from localllm.llama import Batch, Context, ContextParams, Model


def test_same_seed_gives_the_same_text_and_another_seed_another(tiny: Model) -> None:
    one, same = (sample_chunks(tiny, 16, 3, n_threads=1, seed=7) for _ in range(2))
    other = sample_chunks(tiny, 16, 3, n_threads=1, seed=8)
    np.testing.assert_array_equal(one.tokens, same.tokens)
    assert one.sha256 == same.sha256 != other.sha256
    assert one.tokens.shape == (3, 16) and one.names == ("self",)
    assert len({tuple(chunk) for chunk in one.tokens.tolist()}) == 3


def test_more_chunks_than_lanes_are_all_there_and_all_different(tiny: Model) -> None:
    heard: list[tuple[int, int]] = []
    found = sample_chunks(tiny, 16, 11, n_threads=1, on_chunks=lambda done, total: heard.append((done, total)))
    assert found.n_chunks == 11 and len({tuple(chunk) for chunk in found.tokens.tolist()}) == 11
    assert heard == [(8, 11), (11, 11)]
    assert (found.tokens[:, 0] == tiny.vocab.bos).all()


def test_second_token_is_drawn_from_the_models_own_distribution(tiny: Model) -> None:
    n = 400
    drawn = sample_chunks(tiny, 16, n, n_threads=1).tokens[:, 1]
    with Context(tiny, ContextParams(n_ctx=64, n_batch=1, n_threads=1)) as context:
        batch = Batch(1)
        assert tiny.vocab.bos is not None
        batch.add(tiny.vocab.bos, 0, 0, wants_logits=True)
        context.decode(batch)
        logits = context.logits(0).astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    counts = np.bincount(drawn, minlength=p.size)
    likely = p > 0.01
    spread = np.sqrt(p * (1 - p) / n)
    assert (np.abs(counts / n - p)[likely] <= 4.5 * spread[likely]).all()
    assert counts[p < 1e-6].sum() == 0


def test_impossible_sizes_are_refused(tiny: Model) -> None:
    with pytest.raises(RequestError, match="at least 16"):
        sample_chunks(tiny, 8, 3, n_threads=1)
    with pytest.raises(RequestError, match="0 chunks"):
        sample_chunks(tiny, 16, 0, n_threads=1)
