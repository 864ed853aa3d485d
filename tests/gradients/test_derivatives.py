"""The way back, in float64: gradients by every weight against differences of the loss; a dropped term is found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from localllm.gguf import GGUFHeader
from localllm.gradients import Decoder
from localllm.gradients.attention import CausalAttention
from localllm.gradients.feed_forward import gelu, silu
from localllm.gradients.fisher import FisherSum
from localllm.gradients.pieces import Linear, Residual, RmsNorm
from localllm.gradients.rotation import Rope
from localllm.gradients.tensors import TensorReader
from tests.gradients.conftest import NAMES, Written

N_TOKENS = 7
STEP = 1e-5


class Loss:
    """Σ u · logits of one chunk, for a fixed u."""

    def __init__(self, header: GGUFHeader, tokens: np.ndarray, *, last_only: bool = False) -> None:
        self._header, self._tokens = header, tokens
        n_vocab = Decoder(header, len(tokens)).n_vocab
        self._u = np.random.default_rng(2).standard_normal((len(tokens), n_vocab))
        if last_only:
            self._u[:-1] = 0

    def value(self) -> float:
        decoder, x = self._decoder()
        for index in range(decoder.n_layer):
            x = decoder.layer(index).forward(x)
        return float((decoder.output().logits(x) * self._u).sum())

    def products(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return inputs and gradients of the outputs of every linear layer."""
        seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        decoder, x = self._decoder()
        layers = [decoder.layer(i, lambda name, x, g: seen.update({name: (x, g)})) for i in range(decoder.n_layer)]
        for layer in layers:
            x = layer.forward(x)
        output = decoder.output()
        g = output.backward(self._u.copy(), output.logits(x))
        for layer in reversed(layers):
            g = layer.backward(g)
        return seen

    def _decoder(self) -> tuple[Decoder, np.ndarray]:
        decoder = Decoder(self._header, len(self._tokens), np.float64)
        return decoder, decoder.embed(self._tokens)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What is added to tensors as they are read."""
    added: dict[str, np.ndarray] = {}
    read = TensorReader.read
    monkeypatch.setattr(TensorReader, "read", lambda self, name: read(self, name) + added.get(name, 0.0))
    return added


def slope(loss: Loss, moved: dict[str, np.ndarray], name: str, direction: np.ndarray) -> float:
    """Return the loss's derivative along a direction in a weight, by a central difference."""
    values = []
    for sign in (1, -1):
        moved[name] = sign * STEP * direction
        values.append(loss.value())
    del moved[name]
    return (values[0] - values[1]) / (2 * STEP)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    direction = rng.standard_normal(shape)
    return direction / np.linalg.norm(direction)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_every_weight(name: str, written: Written, moved: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    loss = Loss(written(name), rng.integers(0, 256, N_TOKENS))
    products = loss.products()
    matrices = [t.name for t in written(name).tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    assert set(products) == set(matrices)
    for weight in [weight for weight in matrices if int(weight.split(".")[1]) in (0, 3)]:
        x, g = products[weight]
        direction = unit(rng, g.shape[1], x.shape[1])
        expected = slope(loss, moved, weight, direction)
        assert float((g.T @ x * direction).sum()) == pytest.approx(expected, rel=1e-6), weight


def test_factors_of_one_token_are_the_gradient_itself(written: Written, moved: dict[str, np.ndarray]) -> None:
    """With a loss at the last token of a single layer, what only that token's output goes through has one gradient."""
    header = written("llama")
    loss = Loss(header, np.array([9, 40, 77]), last_only=True)
    name = "blk.2.attn_q.weight"
    x, g = loss.products()[name]
    assert not np.abs(g[:-1]).any() and np.abs(g[-1]).any()
    total = FisherSum(g.shape[1], x.shape[1], np.float64)
    total.add(x[-1:], g[-1:])
    found = total.finish()
    basis = [(i, j) for i in (0, 3, 17) for j in (0, 5, 63)]
    gradient = {}
    for i, j in basis:
        direction = np.zeros((g.shape[1], x.shape[1]))
        direction[i, j] = 1
        gradient[i, j] = slope(loss, moved, name, direction)
    # dW = g xᵀ, so |x|² g gᵀ is dW dWᵀ, and |g|² x xᵀ is dWᵀ dW.
    whole = np.outer(g[-1], x[-1])
    for (i, j), value in gradient.items():
        assert whole[i, j] == pytest.approx(value, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(found.outputs[0], whole @ whole.T, rtol=1e-12)
    np.testing.assert_allclose(found.inputs, whole.T @ whole, rtol=1e-12)


def no_mean(self: RmsNorm, g: np.ndarray) -> np.ndarray:
    return g * self._weight * self._inverse


def no_softmax_mean(self: CausalAttention, g: np.ndarray) -> tuple[np.ndarray, ...]:
    self._read = np.zeros_like(self._read)
    return ATTENTION_BACKWARD(self, g)


def positive_weight(self: Linear, g: np.ndarray) -> np.ndarray:
    self._observe(self._name, self._x, g)
    return g @ np.abs(self._weight)


ATTENTION_BACKWARD = CausalAttention.backward
MUTATIONS: dict[str, tuple[type, str, Callable[..., object]]] = {
    "the norm's mean": (RmsNorm, "backward", no_mean),
    "the softmax's mean": (CausalAttention, "backward", no_softmax_mean),
    "the residual": (Residual, "backward", lambda self, g: self._inner.backward(g)),
    "the way back of RoPE": (Rope, "backward", lambda self, g: g),
    "the signs of a weight": (Linear, "backward", positive_weight),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_dropped_term_is_found_out(
    what: str, written: Written, moved: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, method, mutated = MUTATIONS[what]
    loss = Loss(written("qwen3"), np.array([3, 1, 4, 1, 5]))
    direction = unit(np.random.default_rng(0), 128, 64)
    expected = slope(loss, moved, "blk.0.attn_q.weight", direction)
    x, g = loss.products()["blk.0.attn_q.weight"]
    assert float((g.T @ x * direction).sum()) == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(kind, method, mutated)
    x, g = loss.products()["blk.0.attn_q.weight"]
    assert float((g.T @ x * direction).sum()) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("activation", [silu, gelu])
def test_slopes_of_activations(activation: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    x = np.linspace(-60, 60, 4001)
    value, found = activation(x)
    expected = (activation(x + STEP)[0] - activation(x - STEP)[0]) / (2 * STEP)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert value[0] == pytest.approx(0, abs=1e-12) and value[-1] == 60


def test_activations_of_huge_values_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        value, found = silu(np.array([-1e6, 1e6], dtype=np.float32))
    assert value.tolist() == [0.0, 1e6] and found.tolist() == [0.0, 1.0]
