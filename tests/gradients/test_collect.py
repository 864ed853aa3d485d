"""Gradients of a whole model: one layer in memory at a time, from where a former run was, in memory or in a file."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.errors import ModelError, NotEnoughDisk
from localllm.gguf import read_header
from localllm.gradients import (
    Boundary,
    Decoder,
    FisherFactors,
    GradientOptions,
    GradientProgress,
    LayerFactors,
    collect,
)
from localllm.gradients import layer_inputs as layer_inputs_module
from localllm.gradients.pieces import Linear, Piece
from tests.gradients.conftest import Written
from tests.gradients.tiny_decoders import Case, write_tiny_decoder

Collected = dict[int, Mapping[str, FisherFactors]]


class Run:
    """A run that keeps what it is handed; it may end behind a layer."""

    def __init__(self, decoder: Decoder, tokens: np.ndarray, options: GradientOptions) -> None:
        self.decoder, self.tokens, self.options = decoder, tokens, options
        self.layers: Collected = {}
        self.progress: list[GradientProgress] = []
        self.boundary: Boundary | None = None

    def go(self, *, begun: Boundary | None = None, ends_behind: int | None = None) -> Collected:
        def keep(layer: LayerFactors) -> None:
            self.layers[layer.boundary.layer] = layer.factors
            self.boundary = replace(layer.boundary, gradient=layer.boundary.gradient.copy())
            if ends_behind == self.boundary.layer:
                raise KeyboardInterrupt

        collect(self.decoder, self.tokens, keep, self.options, begun=begun, on_progress=self.progress.append)
        return self.layers


@pytest.fixture
def options(tmp_path: Path) -> GradientOptions:
    return GradientOptions(tmp_path, 1 << 30)


def assert_same(found: Collected, expected: Collected) -> None:
    assert found.keys() == expected.keys()
    for layer, factors in expected.items():
        assert found[layer].keys() == factors.keys()
        for name, factor in factors.items():
            np.testing.assert_array_equal(found[layer][name].inputs, factor.inputs)
            np.testing.assert_array_equal(found[layer][name].outputs[0], factor.outputs[0])


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])
def test_factors_are_those_of_a_pass_through_the_whole_model(
    name: str, written: Written, tokens: np.ndarray, options: GradientOptions
) -> None:
    decoder = Decoder(written(name), 12, np.float64)
    found = Run(decoder, tokens, options).go()
    expected: dict[str, np.ndarray] = {}

    def observe(weight: str, x: np.ndarray, g: np.ndarray) -> None:
        total = np.einsum("ti,to,tp->iop", x**2, g, g).sum(axis=0)
        expected[weight] = expected.get(weight, 0) + total

    layers = [decoder.layer(index, observe) for index in range(decoder.n_layer)]
    for number, chunk in enumerate(tokens):
        x = decoder.embed(chunk)
        for layer in layers:
            x = layer.forward(x)
        g = decoder.output().fisher_gradient(x, np.random.default_rng((0, number)))
        for layer in reversed(layers):
            g = layer.backward(g)
    factors = {weight: factor for layer in found.values() for weight, factor in layer.items()}
    assert factors.keys() == expected.keys()
    for weight, factor in factors.items():
        assert factor.n_tokens == tokens.size
        np.testing.assert_allclose(factor.outputs[0], expected[weight], rtol=1e-9, atol=1e-12 * expected[weight].max())


def test_float32_comes_close_to_float64(written: Written, tokens: np.ndarray, options: GradientOptions) -> None:
    single = Run(Decoder(written("qwen3"), 12), tokens, options).go()
    double = Run(Decoder(written("qwen3"), 12, np.float64), tokens, options).go()
    for layer, factors in double.items():
        for name, factor in factors.items():
            found = single[layer][name]
            assert found.inputs.dtype == found.outputs[0].dtype == np.float32
            np.testing.assert_allclose(found.inputs, factor.inputs, atol=1e-4 * factor.inputs.max())
            np.testing.assert_allclose(found.outputs[0], factor.outputs[0], atol=1e-4 * factor.outputs[0].max())


def test_a_run_goes_on_behind_the_last_layer_that_was_done(
    written: Written, tokens: np.ndarray, options: GradientOptions
) -> None:
    decoder = Decoder(written("llama"), 12)
    whole = Run(decoder, tokens, options).go()
    first = Run(decoder, tokens, options)
    with pytest.raises(KeyboardInterrupt):
        first.go(ends_behind=1)
    assert set(first.layers) == {2, 1} and first.boundary is not None
    rest = Run(decoder, tokens, options)
    rest.go(begun=first.boundary)
    assert set(rest.layers) == {0}
    assert_same({**first.layers, **rest.layers}, whole)
    assert rest.progress[-1].share == 1 and len(rest.progress) < len(first.progress)


def test_chunks_have_draws_of_their_own_and_the_seed_changes_them(
    written: Written, tokens: np.ndarray, options: GradientOptions
) -> None:
    decoder = Decoder(written("llama"), 12)
    same = Run(decoder, tokens, options).go()
    assert_same(Run(decoder, tokens, options).go(), same)
    other = Run(decoder, tokens, replace(options, seed=1)).go()
    assert not np.allclose(other[0]["blk.0.attn_q.weight"].outputs[0], same[0]["blk.0.attn_q.weight"].outputs[0])
    twice = Run(decoder, np.concatenate([tokens[:1]] * 2), options).go()[2]["blk.2.ffn_down.weight"].outputs[0]
    once = Run(decoder, tokens[:1], options).go()[2]["blk.2.ffn_down.weight"].outputs[0]
    assert not np.allclose(twice, 2 * once)


def test_what_layers_read_may_lie_in_a_file(written: Written, tokens: np.ndarray, options: GradientOptions) -> None:
    decoder = Decoder(written("llama"), 12)
    assert_same(Run(decoder, tokens, replace(options, memory_bytes=0)).go(), Run(decoder, tokens, options).go())
    assert not list(options.folder.iterdir())


def test_a_disk_without_room_is_refused_at_once(
    written: Written, tokens: np.ndarray, options: GradientOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, n_bytes: int) -> None:
        raise NotEnoughDisk(f"{n_bytes}")

    monkeypatch.setattr(layer_inputs_module, "check_room", full)
    run = Run(Decoder(written("llama"), 12), tokens, replace(options, memory_bytes=0))
    with pytest.raises(NotEnoughDisk, match=str(3 * tokens.size * 64 * 4)):
        run.go()
    assert not run.progress


def test_one_layer_is_in_memory_at_a_time(
    written: Written, tokens: np.ndarray, options: GradientOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer is read once forward and once back, and the one before is gone by then."""
    alive, most, reads = 0, 0, []
    layer_of = Decoder.layer

    class Counted(Linear):
        def __init__(self, name: str, *rest: object) -> None:
            nonlocal alive, most
            super().__init__(name, *rest)  # type: ignore[arg-type]
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def layer(self: Decoder, index: int, *rest: object) -> Piece:
        reads.append(index)
        return layer_of(self, index, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("localllm.gradients.layer.Linear", Counted)
    monkeypatch.setattr(Decoder, "layer", layer)
    Run(Decoder(written("llama"), 12), tokens, options).go()
    assert reads == [0, 1, 2, 2, 1, 0]
    assert most == 7, "the linear layers of one layer"
    assert alive == 0


def test_factors_are_freed_before_the_next_layers_begin(
    written: Written, tokens: np.ndarray, options: GradientOptions
) -> None:
    handed: list[weakref.ref[np.ndarray]] = []

    def on_layer(layer: LayerFactors) -> None:
        handed.extend(weakref.ref(factor.inputs) for factor in layer.factors.values())

    def on_progress(progress: GradientProgress) -> None:
        assert not any(reference() is not None for reference in handed)

    collect(Decoder(written("llama"), 12), tokens, on_layer, options, on_progress=on_progress)
    assert len(handed) == 3 * 7


def test_progress_ends_at_the_end(written: Written, tokens: np.ndarray, options: GradientOptions) -> None:
    run = Run(Decoder(written("llama"), 12), tokens, options)
    run.go()
    shares = [progress.share for progress in run.progress]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1) and run.progress[-1].left_s < 1e-6
    assert [progress.layer for progress in run.progress] == np.repeat([0, 1, 2, 3, 2, 1, 0], 3).tolist()
    assert [progress.is_backward for progress in run.progress] == [False] * 9 + [True] * 12


def test_gradients_that_are_not_finite_are_refused(
    tmp_path: Path, tokens: np.ndarray, options: GradientOptions
) -> None:
    path = write_tiny_decoder(tmp_path / "nan.gguf", Case("nan", "llama", n_layer=2))
    header = read_header(path)
    info = next(tensor for tensor in header.tensors if tensor.name == "blk.1.ffn_gate.weight")
    with path.open("r+b") as file:
        file.seek(info.offset)
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(ModelError, match=r"nan\.gguf: the gradients of layer 1 are not finite"):
        Run(Decoder(header, 12), tokens, options).go()
