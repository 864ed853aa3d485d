from __future__ import annotations

import numpy as np
import pytest

from localllm.errors import RequestError
from localllm.evaluate import Chunks, Subject
from localllm.evaluate.along import divergence_along
from localllm.llama import Model
from tests.evaluate.reference import next_token_rows

F32 = {"kv_type_k": "f32", "kv_type_v": "f32", "n_threads": 1}


def test_every_token_has_numpys_divergence(tiny: Model, another: Model, chunks: Chunks) -> None:
    one = Chunks(chunks.n_ctx, chunks.tokens[:1])
    reference, other = Subject(tiny, **F32), Subject(another, **F32)
    (p, targets), (q, _) = next_token_rows(reference, one), next_token_rows(other, one)
    found = divergence_along(reference, other, one.tokens[0], one.first + 1)
    i = np.arange(len(targets))
    assert found.kl == pytest.approx((p * np.log(p / q)).sum(axis=1), rel=1e-3, abs=1e-6)
    assert found.reference_p == pytest.approx(p[i, targets], rel=1e-3)
    assert found.other_p == pytest.approx(q[i, targets], rel=1e-3)
    assert list(found.same_top) == (p.argmax(axis=1) == q.argmax(axis=1)).tolist()


def test_a_model_does_not_diverge_from_itself(tiny: Model, chunks: Chunks) -> None:
    subject = Subject(tiny, **F32)
    found = divergence_along(subject, subject, chunks.tokens[0], 1)
    assert len(found.kl) == chunks.n_ctx - 1
    assert found.kl.max() == 0 and all(found.same_top)


@pytest.mark.parametrize("n_head", [0, 65, 70])
def test_an_answer_without_tokens_is_refused(tiny: Model, chunks: Chunks, n_head: int) -> None:
    subject = Subject(tiny, **F32)
    with pytest.raises(RequestError, match="nothing to compare"):
        divergence_along(subject, subject, chunks.tokens[0], n_head)
