"""Sums of channels, and which of them are outliers, against NumPy over all rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.calibrate.channels import ChannelSums, OutlierRule, kind_of, profiles
from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.calibrate.samples import RowSamples

RULE = OutlierRule()


def an_input(layer: int, n_cols: int = 4, n_mats: int = 1) -> MatrixInput:
    return MatrixInput((f"blk.{layer}.attn_q.weight", f"blk.{layer}.attn_k.weight"), n_cols, n_mats, 1.0)


def sums_of(layers: list[np.ndarray], n_parts: int = 1, rule: OutlierRule = RULE) -> list[ChannelSums]:
    made = []
    for layer, rows in enumerate(layers):
        source = an_input(layer, rows.shape[1])
        made.append(ChannelSums(source, rule.magnitude))
        for part in np.array_split(rows.astype(np.float32), n_parts):
            made[-1].add(Seen(source, 0, part))
    return made


def layers_with(
    values: dict[int, list[int]], n_layers: int = 8, n_rows: int = 100, size: float = 7.0
) -> list[np.ndarray]:
    """Layers of ones in which channel 2 is `size` in these rows."""
    layers = [np.ones((n_rows, 4)) for _ in range(n_layers)]
    for layer, rows in values.items():
        layers[layer][rows, 2] = -size
    return layers


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7), st.integers(1, 4))
def test_sums_are_those_of_all_rows_at_once(seed: int, n_layers: int, n_cols: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [4 * rng.standard_normal((int(rng.integers(4, 30)), n_cols)) for _ in range(n_layers)]
    (found,) = profiles(sums_of(layers, n_parts), RULE)
    rows = np.concatenate(layers).astype(np.float32).astype(np.float64)
    assert (found.n_layers, found.n_cols, found.n_rows) == (n_layers, n_cols, len(rows))
    assert found.max == np.abs(rows).max()
    assert found.rms == pytest.approx(np.sqrt(np.square(rows).mean()), rel=1e-5)
    assert found.kurtosis == pytest.approx((rows**4).mean() / np.square(rows).mean() ** 2, rel=1e-4)
    is_outlier = [
        np.mean([(np.abs(layer[:, c]) >= 6).any() for layer in layers]) >= 0.25
        and (np.abs(rows[:, c]) >= 6).mean() >= 0.06
        for c in range(n_cols)
    ]
    assert {one.channel for one in found.outliers} == set(np.flatnonzero(is_outlier).tolist())


def test_an_outlier_is_large_in_enough_layers_and_positions() -> None:
    (found,) = profiles(sums_of(layers_with({0: list(range(24)), 5: list(range(24))})), RULE)
    (one,) = found.outliers
    assert (one.channel, one.max, one.n_layers, one.position_share) == (2, 7.0, 2, 0.06)
    assert found.kind == "attn_k attn_q"


@pytest.mark.parametrize(
    "layers",
    [
        layers_with({0: list(range(60))}),
        layers_with({0: list(range(23)), 5: list(range(24))}),
        layers_with({layer: list(range(100)) for layer in range(8)}, size=5.99),
    ],
    ids=["one layer of eight", "a position short", "too small"],
)
def test_less_is_no_outlier(layers: list[np.ndarray]) -> None:
    assert profiles(sums_of(layers), RULE)[0].outliers == ()


def test_the_rule_can_be_another() -> None:
    rule = OutlierRule(magnitude=5.0, layer_share=0.125, position_share=0.01)
    (found,) = profiles(sums_of(layers_with({3: list(range(8))}, size=5.0), rule=rule), rule)
    assert [one.channel for one in found.outliers] == [2]


def test_kinds_and_widths_are_kept_apart() -> None:
    wide = sums_of([np.ones((3, 5))])
    assert [(one.kind, one.n_cols) for one in profiles([*sums_of([np.ones((3, 4))]), *wide], RULE)] == [
        ("attn_k attn_q", 4),
        ("attn_k attn_q", 5),
    ]
    assert kind_of("output.weight") == kind_of("token_embd.weight") == "output"
    assert kind_of("blk.12.ffn_down_exps.weight") == "ffn_down_exps"


def test_silence_has_no_kurtosis_and_no_outliers() -> None:
    (found,) = profiles(sums_of([np.zeros((3, 4))]), RULE)
    assert np.isnan(found.kurtosis) and found.rms == 0 and found.outliers == ()


def test_samples_are_spread_over_the_text_and_bounded() -> None:
    source = an_input(0, 1)
    samples = RowSamples(n_chunks=4, n_rows=6)
    for chunk in range(4):
        samples.add(Seen(source, 0, np.arange(100 * chunk, 100 * chunk + 10, dtype=np.float32)[:, None]))
    rows = samples.of(source.name, 0)
    assert rows is not None
    assert rows[:, 0].tolist() == [2, 7, 102, 107, 202, 207]
    assert samples.of(source.name, 1) is None


def test_experts_share_the_rows() -> None:
    source = an_input(0, 1, n_mats=8)
    samples = RowSamples(n_chunks=1, n_rows=16)
    for mat in range(3):
        samples.add(Seen(source, mat, np.zeros((5, 1), dtype=np.float32)))
    assert [len(found) for mat in range(3) if (found := samples.of(source.name, mat)) is not None] == [2, 2, 2]
