"""Second moments against NumPy's plain product, and how the memory is shared out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.calibrate.gram import ROWS_MIN, MomentSum, moment_bytes
from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.calibrate.plan import MomentPart, parts_of, plan_passes, sink_parts_of
from localllm.errors import NotEnoughMemory
from localllm.gradients.gram import PANEL, add_gram, mirror_upper
from localllm.hardware.blas import blas_threads


def rows_of(n_rows: int, n_cols: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, n_cols)) * rng.lognormal(0, 2, n_cols)).astype(np.float32)


def source(n_cols: int, name: str = "blk.0.attn_q.weight", n_mats: int = 1) -> MatrixInput:
    return MatrixInput((name,), n_cols, n_mats, 1 / n_mats)


@pytest.mark.parametrize("n_cols", [1, 7, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 90])
def test_panels_add_up_to_the_whole_product(n_cols: int) -> None:
    first, second = rows_of(40, n_cols), rows_of(3, n_cols, seed=1)
    h = np.zeros((n_cols, n_cols), dtype=np.float32)
    add_gram(h, first)
    add_gram(h, second)
    mirror_upper(h)
    both = np.concatenate([first, second]).astype(np.float64)
    expected = both.T @ both
    scale = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    assert (np.abs(h - expected) <= 1e-5 * scale).all()
    np.testing.assert_array_equal(h, h.T)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_any_cut_of_the_rows_gives_the_same_moment(sizes: list[int], n_cols: int) -> None:
    rows = rows_of(sum(sizes), n_cols, seed=n_cols)
    moment = MomentSum(n_cols)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        moment.add(Seen(source(n_cols), 0, part))
        moment.settle()
    h, wide = moment.finish(), rows.astype(np.float64)
    expected = wide.T @ wide
    scale = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    assert (np.abs(h - expected) <= 1e-5 * scale).all()
    assert moment.n_rows == len(rows)
    assert np.linalg.eigvalsh(h.astype(np.float64)).min() >= -1e-5 * np.trace(h)


def test_few_rows_wait_for_more_and_none_are_lost() -> None:
    rows, moment = rows_of(ROWS_MIN - 1, 8), MomentSum(8)
    moment.add(Seen(source(8), 0, rows))
    moment.settle()
    assert not moment._h.any(), "too few to be worth it"
    np.testing.assert_allclose(moment.finish(), rows.T @ rows, rtol=1e-3, atol=1e-3)


def test_diagonal_is_summed_in_float64() -> None:
    """A hundred thousand small squares after a large one are lost in float32, and not here."""
    moment = MomentSum(1)
    moment.add(Seen(source(1), 0, np.full((1, 1), 4096.0, dtype=np.float32)))
    for _ in range(200):
        moment.add(Seen(source(1), 0, np.full((500, 1), 0.5, dtype=np.float32)))
    moment.settle()
    assert moment.finish()[0, 0] == 4096.0**2 + 100_000 * 0.25


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 5)), min_size=1, max_size=12),
    st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_passes_hold_each_part_once_in_order_within_the_room(sizes: list[tuple[int, int]], megabytes: int) -> None:
    inputs = [source(n_cols, f"blk.{i}.x.weight", n_mats) for i, (n_cols, n_mats) in enumerate(sizes)]
    parts = parts_of(inputs)
    room = megabytes << 20
    try:
        passes = plan_passes(parts, 512, room)
    except NotEnoughMemory:
        assert max(_need(part) for part in parts) + _scratch(parts) > room
        return
    assert [part for one in reversed(passes) for part in one] == parts
    assert all(passes)
    for one in passes:
        assert sum(map(_need, one)) + _scratch(parts) <= room
    for later, earlier in zip(passes[1:], passes, strict=False):
        assert sum(map(_need, earlier)) + _need(later[-1]) + _scratch(parts) > room, (
            "no pass is smaller than it must be"
        )


def _need(part: MomentPart) -> int:
    return moment_bytes(part.source.n_cols, 512, part.source.share)


def _scratch(parts: list[MomentPart]) -> int:
    return 8 * PANEL * max(part.source.n_cols for part in parts)


def test_parts_are_named_by_their_tensor_and_expert() -> None:
    assert [part.name for part in parts_of([source(4), source(4, "blk.1.ffn_down_exps.weight", 2)])] == [
        "blk.0.attn_q",
        "blk.1.ffn_down_exps.0",
        "blk.1.ffn_down_exps.1",
    ]


def test_parts_of_first_tokens_are_of_keys_and_values_alone() -> None:
    qkv = MatrixInput(tuple(f"blk.0.attn_{part}.weight" for part in "qkv"), 4, 1, 1.0)
    fused = source(4, "blk.1.attn_qkv.weight")
    assert [part.name for part in sink_parts_of([qkv, source(4, "blk.0.ffn_up.weight"), fused])] == [
        "blk.0.attn_q.first4"
    ]


def test_threads_of_blas_are_as_before_afterwards() -> None:
    with blas_threads(3) as is_known:
        if not is_known:
            pytest.skip("NumPy's BLAS cannot be told")
        with blas_threads(1):
            assert _n_threads() == 1
        assert _n_threads() == 3


def _n_threads() -> int:
    from localllm.hardware.blas import _openblas

    found = _openblas()
    assert found is not None
    return int(found[0]())
