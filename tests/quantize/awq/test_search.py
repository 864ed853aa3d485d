"""The search for scales: never worse than none by its own measure, and better where some channels matter more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.gguf import GGUFHeader, read_header
from localllm.llama.encoding import decode, encode
from localllm.quantize import Imatrix, ImatrixEntry, Mix, Workers, file_type, plan_mix
from localllm.quantize.awq import FoldChoice, InputStatistics, plan_folds, search_folds
from localllm.quantize.awq.search import ALPHAS, channel_scale
from localllm.quantize.gptq import SecondMoments
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.quantize.gptq.samples import KINDS, weights
from tests.tiny_model import write_tiny_model

GQA = {"n_head": 4, "n_head_kv": 2}


class RandomInputs:
    """Inputs of every matrix of a model, a few channels of which are much larger (a `MomentSource`)."""

    def __init__(self, header: GGUFHeader, spread: float, unseen: int = -1) -> None:
        self._found: dict[tuple[str, int], np.ndarray] = {}
        for index, tensor in enumerate(t for t in header.tensors if t.name.startswith("blk.") and len(t.shape) > 1):
            for matrix in range((*tensor.shape, 1)[2]):
                rng = np.random.default_rng((index, matrix))
                x = rng.standard_normal((100, tensor.shape[0])) * np.exp(rng.normal(0, spread, tensor.shape[0]))
                self._found[tensor.name, matrix] = (
                    x.astype(np.float32) if matrix != unseen else x[:0].astype(np.float32)
                )

    def covers(self, weight: str) -> bool:
        return (weight, 0) in self._found

    def input_of(self, weight: str) -> str:
        return weight

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        x = self._found[weight, matrix]
        return SecondMoments(x.T @ x, len(x)) if len(x) else None

    def imatrix(self) -> Imatrix:
        entries = {}
        for name in {name for name, _ in self._found}:
            own = [x for (weight, _), x in sorted(self._found.items()) if weight == name]
            entries[name] = ImatrixEntry(
                np.stack([(x**2).sum(axis=0) for x in own]), np.array([len(x) for x in own], dtype=np.int64)
            )
        return Imatrix(entries)


def search(
    path: Path, spread: float, *, with_moments: bool = True, n_threads: int = 1, **more: int
) -> list[FoldChoice]:
    header = read_header(path)
    inputs = RandomInputs(header, spread, **more)
    mix = plan_mix(header, file_type("Q4_0"), has_imatrix=True)
    statistics = InputStatistics(inputs.imatrix(), inputs if with_moments else None)
    with Workers(n_threads) as workers:
        return search_folds(header, mix, plan_folds(header).folds, statistics, workers)


@pytest.mark.parametrize("with_moments", [True, False])
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_never_worse_than_none_and_better_where_channels_differ(
    tmp_path: Path, with_moments: bool, spread: float
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", **GQA)
    choices = search(path, spread, with_moments=with_moments)
    assert len(choices) == 8
    for choice in choices:
        assert choice.losses[ALPHAS.index(choice.alpha)] == min(choice.losses) <= choice.losses[0]
        assert choice.losses[0] > 0
    if spread:
        assert sum(min(choice.losses) for choice in choices) < 0.9 * sum(choice.losses[0] for choice in choices)
        assert all(choice.alpha > 0 for choice in choices if choice.fold.name.endswith("norm"))


def test_the_loss_is_that_of_the_restored_weights(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", n_embd=64, n_head=2, n_head_kv=2)
    header = read_header(path)
    inputs = RandomInputs(header, 1.5)
    choice = next(choice for choice in search(path, 1.5) if choice.fold.name == "blk.0.attn_v")
    scale, importance = choice.scale[0], inputs.imatrix().entries["blk.0.attn_output.weight"].importance[0]
    expected = 0.0
    for name, cols, rows in (
        ("blk.0.attn_output.weight", scale, np.ones(64)),
        ("blk.0.attn_v.weight", np.ones(64), 1 / scale),
    ):
        tensor = header.tensor(name)
        assert tensor is not None
        data = path.read_bytes()[tensor.offset : tensor.offset + tensor.n_bytes]
        w = np.frombuffer(data, dtype=np.float32).reshape(64, 64)
        importance = inputs.imatrix().entries[name].importance[0] / cols**2
        scaled = (w * cols * rows[:, None]).astype(np.float32)
        error = decode("q4_0", encode("q4_0", scaled, importance.astype(np.float32))) / cols / rows[:, None] - w
        moments = inputs.second_moments(name, 0)
        assert moments is not None
        expected += np.trace(error @ moments.total @ error.T) / np.trace(w @ moments.total @ w.T)
    np.testing.assert_allclose(choice.losses[ALPHAS.index(choice.alpha)], expected, rtol=1e-3)


def test_experts_have_scales_of_their_own_and_one_that_saw_nothing_has_none(tmp_path: Path) -> None:
    choices = search(write_tiny_moe(tmp_path / "m.gguf"), 1.5, unseen=2)
    up = next(choice for choice in choices if choice.fold.name == "blk.0.ffn_up_exps")
    assert up.alpha > 0 and up.scale.shape == (4, 64)
    assert (up.scale[2] == 1).all() and not np.array_equal(up.scale[0], up.scale[1])


def test_the_result_does_not_depend_on_threads(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", **GQA)
    one, three = search(path, 1.5), search(path, 1.5, n_threads=3)
    assert [choice.losses for choice in one] == [choice.losses for choice in three]


def test_folds_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    header = read_header(write_tiny_model(tmp_path / "m.gguf"))
    entries = {name: entry for name, entry in RandomInputs(header, 1).imatrix().entries.items() if "ffn_down" in name}
    mix = plan_mix(header, file_type("Q4_0"))
    with Workers(1) as workers:
        found = search_folds(header, mix, plan_folds(header).folds, InputStatistics(Imatrix(entries)), workers)
    assert [choice.fold.name for choice in found] == ["blk.0.ffn_up", "blk.1.ffn_up"]


def test_types_that_do_not_round_leave_the_scales_at_one(tmp_path: Path) -> None:
    header = read_header(write_tiny_model(tmp_path / "m.gguf"))
    inputs = RandomInputs(header, 1.5)
    mix = Mix(file_type("F16"), {tensor.name: tensor.type for tensor in header.tensors})
    with Workers(1) as workers:
        found = search_folds(header, mix, plan_folds(header).folds, InputStatistics(inputs.imatrix()), workers)
    assert found and all(choice.alpha == 0 for choice in found)


def test_scales_have_a_geometric_mean_of_one_and_make_channels_alike() -> None:
    energy = np.array([[1.0, 4.0, 0.0, 100.0]], dtype=np.float32)
    assert (channel_scale(energy, 0) == 1).all()
    scale = channel_scale(energy, 1)
    np.testing.assert_allclose(np.log(scale).sum(), 0, atol=1e-5)
    np.testing.assert_allclose((np.sqrt(energy) / scale)[0, [0, 1, 3]], 1 / scale[0, 0], rtol=1e-5)
    assert (channel_scale(np.zeros((1, 4), dtype=np.float32), 0.5) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_rounding_a_row_hardly_depends_on_its_scale(kind: str, scale: float) -> None:
    rows = weights()
    importance = np.exp(np.random.default_rng(2).normal(0, 1, rows.shape[1])).astype(np.float32)

    def loss(factor: float) -> float:
        scaled = (rows * factor).astype(np.float32)
        error = decode(kind, encode(kind, scaled, importance)) / factor - rows
        return float((error**2 @ importance).sum())

    assert loss(scale) == pytest.approx(loss(1.0), rel=0.05)
