"""Gradients of a whole model over a text, one layer's weights in memory at a time.

The way forward reads layer after layer, each for all chunks, and keeps what the layers read; the way back begins with
draws at the output (`output.fisher_gradient`) and computes each layer once more, with its derivatives. The last layer
comes first, so a run that knows the gradient at a layer's inputs goes on with the layer before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelError
from localllm.gguf import printable
from localllm.gradients.decoder import Decoder
from localllm.gradients.fisher import FisherFactors, FisherSum
from localllm.gradients.layer_inputs import LayerInputs
from localllm.gradients.tensors import Array

Tokens = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Boundary:
    """Where the way back is."""

    layer: int
    """The first layer that is done; those after it are, too."""
    gradient: Array
    """By what that layer reads: [n_chunks, n_ctx, n_embd]."""


@dataclass(frozen=True)
class LayerFactors:
    """A layer that is done."""

    factors: Mapping[str, FisherFactors]
    """By the names of its weight matrices."""
    boundary: Boundary
    """Whose gradient the next layer changes in place."""


@dataclass(frozen=True)
class GradientOptions:
    """How to collect gradients."""

    folder: Path
    """For a file of what the layers read, if it does not fit in memory."""
    memory_bytes: int
    """For what the layers read."""
    seed: int = 0
    """Of the draws; each chunk has a generator of its own."""


@dataclass(frozen=True)
class GradientProgress:
    """How far the gradients are."""

    is_backward: bool
    layer: int
    share: float
    """Of the multiplications, 0 to 1."""
    left_s: float
    """Seconds that the rest will take if it goes on as it went."""


OnProgress = Callable[[GradientProgress], None]
"""Called after each layer of a chunk; an exception ends the work."""


def collect(
    decoder: Decoder,
    tokens: Tokens,
    on_layer: Callable[[LayerFactors], None],
    options: GradientOptions,
    *,
    begun: Boundary | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Collect the Fisher factors of every linear layer, the last layer first.

    Args:
        decoder: the model.
        tokens: [n_chunks, n_ctx].
        on_layer: is handed each layer's factors, which are freed after that.
        options: how.
        begun: where a former run with the same tokens and seed was.
        on_progress: called often.

    Raises:
        ModelError: the gradients are not finite.
        InvalidModelFile, ModelNotFound: the file has changed.
        NotEnoughDisk: what the layers read fits neither in memory nor on the disk.
    """
    n_layer = decoder.n_layer if begun is None else begun.layer
    shape = (n_layer, *tokens.shape, decoder.graph.n_embd)
    clock = _Clock(decoder, len(tokens), n_layer, on_progress, with_output=begun is None)
    with LayerInputs(shape, decoder.dtype, options.memory_bytes, options.folder) as inputs:
        outputs = _forward(decoder, tokens, inputs, n_layer, clock)
        gradient = _from_output(decoder, outputs, options.seed, clock) if begun is None else begun.gradient
        for layer in reversed(range(n_layer)):
            # No name for the factors: they would stay while those of the next layer are added up.
            on_layer(LayerFactors(_backward(decoder, layer, inputs, gradient, clock), Boundary(layer, gradient)))


def _forward(decoder: Decoder, tokens: Tokens, inputs: LayerInputs, n_layer: int, clock: _Clock) -> Array:
    """Return what the last layer makes: [n_chunks, n_ctx, n_embd]."""
    x = decoder.embed(tokens)
    for index in range(n_layer):
        _forward_layer(decoder, index, x, inputs, clock)
    return x


def _forward_layer(decoder: Decoder, index: int, x: Array, inputs: LayerInputs, clock: _Clock) -> None:
    """Turn what a layer reads into what it makes, in place."""
    layer = decoder.layer(index)
    for chunk in range(len(x)):
        inputs.put(index, chunk, x[chunk])
        x[chunk] = layer.forward(x[chunk])
        clock.forward(index)


def _from_output(decoder: Decoder, outputs: Array, seed: int, clock: _Clock) -> Array:
    """Turn what the last layer makes into gradients by it, in place."""
    layer = decoder.output()
    for chunk in range(len(outputs)):
        outputs[chunk] = layer.fisher_gradient(outputs[chunk], np.random.default_rng((seed, chunk)))
        clock.output()
    return outputs


def _backward(
    decoder: Decoder, index: int, inputs: LayerInputs, gradient: Array, clock: _Clock
) -> dict[str, FisherFactors]:
    """Turn the gradient by what a layer makes into that by what it reads, in place; return its weights' factors."""
    sums = {name: FisherSum(*shape, decoder.dtype) for name, shape in decoder.matrices(index).items()}
    layer = decoder.layer(index, lambda name, x, g: sums[name].add(x, g))
    for chunk in range(len(gradient)):
        layer.forward(inputs.get(index, chunk))
        gradient[chunk] = layer.backward(gradient[chunk])
        clock.backward(index)
    if not np.isfinite(gradient).all():
        raise ModelError(
            f"{printable(decoder.name, 200)}: the gradients of layer {index} are not finite.",
            hint="The weights are damaged, or too large for float32. Calibrate without --kl-aware.",
        )
    return {name: total.finish() for name, total in sums.items()}


class _Clock:
    """Counts the multiplications of matrices, and says how long the rest will take."""

    def __init__(
        self, decoder: Decoder, n_chunks: int, n_layer: int, on_progress: OnProgress, *, with_output: bool
    ) -> None:
        self._layers = [_layer_costs(decoder.matrices(layer).values()) for layer in range(n_layer)]
        self._output = 2 * decoder.n_vocab * decoder.graph.n_embd
        self._n_total = n_chunks * (sum(map(sum, self._layers)) + (self._output if with_output else 0))
        self._n_done = 0.0
        self._on_progress = on_progress
        self._started = time.monotonic()

    def forward(self, layer: int) -> None:
        """Count a chunk on its way forward."""
        self._tick(self._layers[layer][0], layer, is_backward=False)

    def backward(self, layer: int) -> None:
        """Count a chunk on its way back."""
        self._tick(self._layers[layer][1], layer, is_backward=True)

    def output(self) -> None:
        """Count a chunk in the output layer."""
        self._tick(self._output, len(self._layers), is_backward=True)

    def _tick(self, cost: float, layer: int, *, is_backward: bool) -> None:
        self._n_done += cost
        left_s = (time.monotonic() - self._started) * (self._n_total - self._n_done) / self._n_done
        self._on_progress(GradientProgress(is_backward, layer, self._n_done / self._n_total, left_s))


def _layer_costs(matrices: Iterable[tuple[int, int]]) -> tuple[float, float]:
    """Return the multiplications that one token takes in a layer, forward and backward."""
    shapes = tuple(matrices)
    once = sum(n_out * n_in for n_out, n_in in shapes)
    return once, 2 * once + sum(n_out**2 + n_in**2 for n_out, n_in in shapes) / 2
