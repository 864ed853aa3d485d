"""The draws at the output are the Fisher information's, and its factors are sums over tokens."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.gradients import Decoder
from localllm.gradients import fisher as fisher_module
from localllm.gradients import output as output_module
from localllm.gradients.fisher import FisherSum
from localllm.gradients.output import fisher_draws
from localllm.gradients.pieces import Piece
from localllm.gradients.tensors import TensorReader
from tests.gradients.conftest import Written


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max())
    return p / p.sum()


def test_many_draws_have_the_second_moment_of_the_kl_divergence() -> None:
    logits = np.array([2.0, 0.0, -1.0, 1.5, -4.0, 0.3])
    n = 200_000
    u = fisher_draws(np.tile(logits, (n, 1)), np.random.default_rng(0))
    p = softmax(logits)
    np.testing.assert_allclose(u.T @ u / n, np.diag(p) - np.outer(p, p), atol=4 / np.sqrt(n))
    np.testing.assert_allclose(u.sum(axis=1), 0, atol=1e-12)


def test_the_second_moment_predicts_the_kl_divergence() -> None:
    logits = np.array([2.0, 0.0, -1.0, 1.5, -4.0, 0.3])
    error = 1e-3 * np.random.default_rng(1).standard_normal(6)
    p, q = softmax(logits), softmax(logits + error)
    divergence = (p * np.log(p / q)).sum()
    u = fisher_draws(np.tile(logits, (200_000, 1)), np.random.default_rng(2))
    assert ((u @ error) ** 2).mean() / 2 == pytest.approx(divergence, rel=0.02)


def test_draws_do_not_depend_on_how_tokens_are_sliced(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(written("gemma2"), 12, np.float64)
    x = np.random.default_rng(0).standard_normal((12, 64))
    whole = decoder.output().fisher_gradient(x, np.random.default_rng(7))
    monkeypatch.setattr(output_module, "SLICE_BYTES", 5 * 8 * decoder.n_vocab)
    np.testing.assert_allclose(decoder.output().fisher_gradient(x, np.random.default_rng(7)), whole, rtol=1e-12)
    other = decoder.output().fisher_gradient(x, np.random.default_rng(8))
    assert np.abs(other - whole).max() > 0.1 * np.abs(whole).max()


@pytest.mark.parametrize("weight", ["blk.0.attn_q.weight", "blk.1.attn_v.weight", "blk.2.ffn_down.weight"])
def test_gradients_predict_the_kl_divergence_of_a_changed_weight(
    weight: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an error E, the mean of (Σ gᵀ E x)² / 2 over draws is the KL divergence of all tokens together."""
    header, rng = written("qwen2"), np.random.default_rng(0)
    tokens = rng.integers(0, 256, 8)
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    decoder = Decoder(header, len(tokens), np.float64)
    layers = [decoder.layer(i, lambda name, x, g: seen.update({name: (x, g)})) for i in range(decoder.n_layer)]
    output, last = decoder.output(), _outputs_of(layers, decoder.embed(tokens))
    logits = output.logits(last)
    n_in, n_out = next(tensor.shape for tensor in header.tensors if tensor.name == weight)
    error = 1e-5 * rng.standard_normal((n_out, n_in))
    predicted = []
    for _ in range(600):
        g = output.fisher_gradient(last, rng)
        for layer in reversed(layers):
            g = layer.backward(g)
        x, g = seen[weight]
        predicted.append(float((g.T @ x * error).sum()) ** 2 / 2)
    read = TensorReader.read
    monkeypatch.setattr(TensorReader, "read", lambda self, name: read(self, name) + (error if name == weight else 0))
    changed = Decoder(header, len(tokens), np.float64)
    layers = [changed.layer(i) for i in range(changed.n_layer)]
    other = changed.output().logits(_outputs_of(layers, changed.embed(tokens)))
    divergence = sum((p * np.log(p / q)).sum() for p, q in zip(map(softmax, logits), map(softmax, other), strict=True))
    assert np.mean(predicted) == pytest.approx(divergence, rel=0.25)


def _outputs_of(layers: list[Piece], x: np.ndarray) -> np.ndarray:
    for layer in layers:
        x = layer.forward(x)
    return x


@pytest.mark.parametrize("n_out", [5, 2048])
def test_factors_are_sums_over_all_tokens(n_out: int) -> None:
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((9, 6)), rng.standard_normal((9, n_out))
    total = FisherSum(n_out, 6, np.float64)
    total.add(x[:4], g[:4])
    total.add(x[4:], g[4:])
    found = total.finish()
    np.testing.assert_allclose(found.inputs, sum(g[t] @ g[t] * np.outer(x[t], x[t]) for t in range(9)))
    np.testing.assert_allclose(found.outputs[0], sum(x[t] @ x[t] * np.outer(g[t], g[t]) for t in range(9)), atol=1e-9)
    assert found.n_tokens == 9 and len(found.outputs) == 1


def test_of_many_outputs_only_diagonal_blocks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher_module, "WHOLE_OUTPUTS", 6)
    monkeypatch.setattr(fisher_module, "BLOCK", 3)
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((9, 4)), rng.standard_normal((9, 8))
    total = FisherSum(8, 4, np.float64)
    total.add(x, g)
    found = total.finish().outputs
    whole = (g * (x**2).sum(axis=1)[:, None]).T @ g
    assert len(found) == 3
    np.testing.assert_allclose(found[0], whole[:3, :3])
    np.testing.assert_allclose(found[1], whole[3:6, 3:6])
    np.testing.assert_allclose(found[2], whole[6:, 6:])
