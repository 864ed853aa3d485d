from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localllm.errors import DecodeFailed, RequestError, UnsupportedModel
from localllm.evaluate import Chunks, Subject, compare, perplexity
from localllm.evaluate import lane as lanes
from localllm.llama import Model
from tests.evaluate.conftest import TEXT
from tests.evaluate.reference import next_token_rows
from tests.runtime.embedding_models import write_encoder
from tests.tiny_model import write_tiny_model

# With an f32 cache, batches of any width differ by rounding only.
F32 = {"kv_type_k": "f32", "kv_type_v": "f32", "n_threads": 1}


def test_perplexity_is_numpys(tiny: Model, chunks: Chunks) -> None:
    subject = Subject(tiny, **F32)
    found = perplexity(subject, chunks)
    rows, targets = next_token_rows(subject, chunks)
    nll = -np.log(rows[np.arange(len(targets)), targets])
    error = nll.std() / math.sqrt(len(nll) - 1)
    assert found.n_scored == len(nll) == 3 * (65 - 1 - 32)
    assert found.n_evaluated == 3 * 64
    assert found.perplexity.value == pytest.approx(math.exp(nll.mean()), rel=1e-4)
    assert found.perplexity.standard_error == pytest.approx(math.exp(nll.mean()) * error, rel=1e-3)
    assert found.divergence is None


def test_divergence_is_numpys(tiny: Model, another: Model, chunks: Chunks) -> None:
    reference, other = Subject(tiny, **F32), Subject(another, **F32)
    found = compare(reference, [other], chunks)
    (p, targets), (q, _) = next_token_rows(reference, chunks), next_token_rows(other, chunks)
    kl = (p * np.log(p / q)).sum(axis=1)
    i = np.arange(len(targets))
    delta_p = q[i, targets] - p[i, targets]
    got = found.others[0].divergence
    assert got is not None
    assert got.kl.value == pytest.approx(kl.mean(), rel=1e-4)
    assert got.kl.standard_error == pytest.approx(kl.std(ddof=1) / math.sqrt(len(kl)), rel=1e-3)
    quantiles = (got.median, got.p90, got.p95, got.p99, got.p999, got.max)
    assert quantiles == pytest.approx(np.quantile(kl, [0.5, 0.9, 0.95, 0.99, 0.999, 1]), rel=1e-3)
    assert got.same_top.value == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    assert got.delta_p_mean.value == pytest.approx(delta_p.mean(), abs=1e-6)
    assert got.delta_p_rms == pytest.approx(math.sqrt((delta_p**2).mean()), rel=1e-3)
    ratio = math.log(found.others[0].perplexity.value / found.reference.perplexity.value)
    assert got.log_perplexity_ratio.value == pytest.approx(ratio)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_divergence_of_a_model_from_itself_is_zero(tiny: Model, chunks: Chunks, kv_type: str) -> None:
    subject = Subject(tiny, kv_type, kv_type, 1)
    found = compare(subject, [subject], chunks)
    got = found.others[0].divergence
    assert got is not None
    assert (got.kl.value, got.max, got.delta_p_rms, got.same_top.value) == (0, 0, 0, 1)
    assert found.others[0].perplexity == found.reference.perplexity


def test_coarser_kv_types_diverge_more(tiny: Model, chunks: Chunks) -> None:
    types = ("f16", "q8_0", "q4_0")
    found = compare(Subject(tiny, **F32), [Subject(tiny, kind, kind, 1) for kind in types], chunks)
    kl = [other.divergence.kl.value for other in found.others if other.divergence]
    # Flash attention reads an f32 cache as f16, so these two are equal.
    assert 0 == kl[0] < kl[1] < kl[2]


def test_blocks_of_any_size_give_the_same(
    tiny: Model, another: Model, chunks: Chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare(Subject(tiny, **F32), [Subject(another, **F32)], chunks)
    monkeypatch.setattr(lanes, "BLOCK_BYTES", 0)
    monkeypatch.setattr(lanes, "N_ROWS_MIN", 5)
    parts = compare(Subject(tiny, **F32), [Subject(another, **F32)], chunks)
    assert parts.others[0].n_scored == whole.others[0].n_scored
    assert parts.others[0].perplexity.value == pytest.approx(whole.others[0].perplexity.value, rel=1e-4)
    assert parts.others[0].divergence is not None and whole.others[0].divergence is not None
    assert parts.others[0].divergence.kl.value == pytest.approx(whole.others[0].divergence.kl.value, rel=1e-4)


def test_chunks_do_not_see_each_other(tiny: Model, chunks: Chunks) -> None:
    doubled = Chunks(chunks.n_ctx, chunks.tokens[:1] * 2)
    once, twice = (
        perplexity(Subject(tiny, **F32), part).perplexity for part in (Chunks(65, chunks.tokens[:1]), doubled)
    )
    assert twice.value == pytest.approx(once.value, rel=1e-9)


def test_progress_is_told_after_each_chunk(tiny: Model, chunks: Chunks) -> None:
    told: list[tuple[int, int]] = []
    perplexity(Subject(tiny, n_threads=1), chunks, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupt_frees_every_context(tiny: Model, chunks: Chunks, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[lanes.Lane] = []
    close: Callable[[lanes.Lane], None] = lanes.Lane.close
    monkeypatch.setattr(lanes.Lane, "close", lambda self: (closed.append(self), close(self)))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(Subject(tiny, n_threads=1), [Subject(tiny, n_threads=1)], chunks, interrupt)
    assert len(closed) == 2
    with pytest.raises(RuntimeError, match="closed"):
        closed[0].logits([1], 0)


def test_another_vocabulary_is_refused_with_the_first_difference(
    tiny: Model, chunks: Chunks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tiny_model.SPECIALS", ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|more|>"))
    said = r"larger.gguf and tiny.gguf .*: 274 tokens and 273\."
    with Model(write_tiny_model(tmp_path / "larger.gguf")) as larger, pytest.raises(RequestError, match=said):
        compare(Subject(tiny), [Subject(larger)], chunks)
    monkeypatch.setattr("tests.tiny_model.SPECIALS", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    monkeypatch.setattr("tests.tiny_model.byte_tokens", lambda: ["A", *reversed(_bytes())][:256])
    said = r"token 0 is 'A' and '!'"
    with Model(write_tiny_model(tmp_path / "turned.gguf")) as turned, pytest.raises(RequestError, match=said):
        compare(Subject(tiny), [Subject(turned)], chunks)


def _bytes() -> list[str]:
    return [chr(n) for n in range(300, 600)]


def test_logits_that_are_no_numbers_are_an_error(chunks: Chunks, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "broken.gguf", logit_std=math.nan)
    with Model(path) as broken, pytest.raises(DecodeFailed, match="not numbers"):
        perplexity(Subject(broken, n_threads=1), chunks)


def test_a_model_that_makes_no_text_is_refused(tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "bert.gguf")
    with Model(path) as bert, pytest.raises(UnsupportedModel, match="makes no text"):
        perplexity(Subject(bert, n_threads=1), Chunks.of_tokens(range(5, 40), 16))


def test_text_of_the_tests_is_long_enough(tiny: Model) -> None:
    assert Chunks.of_text(TEXT, tiny.vocab, n_ctx=65).n_chunks > 3
