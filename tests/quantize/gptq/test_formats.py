"""The block types taken apart: held against ggml's own bytes and ggml's own decoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import RequestError
from localllm.llama.encoding import decode, encode
from localllm.quantize.gptq.bits import join_bits, split_bits
from localllm.quantize.gptq.blocks import Blocks
from localllm.quantize.gptq.formats import FORMATS, BlockFormat, block_format
from tests.quantize.gptq.samples import KINDS, weights


def formula(fmt: BlockFormat, parts: Blocks) -> np.ndarray:
    """d · scale · level[code] - dmin · min, in float64."""
    scale = parts.d.astype(np.float64)[:, None] * parts.scales
    low = parts.dmin.astype(np.float64)[:, None] * parts.mins
    by_weight = [np.repeat(values, fmt.group_size, axis=1) for values in (scale, low)]
    return by_weight[0] * fmt.levels[parts.codes] - by_weight[1]


def random_parts(fmt: BlockFormat, n: int, seed: int) -> Blocks:
    rng = np.random.default_rng(seed)
    shape = (n, fmt.scales.n_groups)
    (s0, s1), (m0, m1) = fmt.scales.scale_range, fmt.scales.min_range
    return Blocks(
        d=rng.normal(size=n).astype(np.float16),
        dmin=(rng.normal(size=n) * fmt.has_min).astype(np.float16),
        scales=rng.integers(s0, s1, shape, dtype=np.int16, endpoint=True),
        mins=rng.integers(m0, m1, shape, dtype=np.int16, endpoint=True),
        codes=rng.integers(0, len(fmt.levels), (n, fmt.block_size), dtype=np.uint8),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_ggmls_blocks_come_back_byte_for_byte(kind: str) -> None:
    fmt = block_format(kind)
    coded = encode(kind, weights(8, 512), np.linspace(0.1, 3, 512, dtype=np.float32)).reshape(-1, fmt.block_bytes)
    np.testing.assert_array_equal(fmt.pack(fmt.unpack(coded)), coded)


@pytest.mark.parametrize("kind", KINDS)
def test_ggml_decodes_what_the_formula_says(kind: str) -> None:
    fmt = block_format(kind)
    parts = random_parts(fmt, 9, seed=1)
    np.testing.assert_allclose(decode(kind, fmt.pack(parts)), formula(fmt, parts), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_ggmls_own_blocks_follow_the_formula(kind: str) -> None:
    fmt = block_format(kind)
    coded = encode(kind, weights(5, 256)).reshape(-1, fmt.block_bytes)
    np.testing.assert_allclose(decode(kind, coded), formula(fmt, fmt.unpack(coded)), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_survives(kind: str) -> None:
    fmt = block_format(kind)
    parts = random_parts(fmt, 7, seed=2)
    again = fmt.unpack(fmt.pack(parts))
    for name in ("d", "dmin", "scales", "mins", "codes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(parts, name), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_and_codes_are_each_others_inverse(kind: str) -> None:
    fmt = block_format(kind)
    codes = np.arange(len(fmt.levels), dtype=np.uint8)
    np.testing.assert_array_equal(fmt.codes_of(fmt.levels), codes)
    np.testing.assert_array_equal(fmt.nearest_levels(fmt.levels), fmt.levels)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_level_is_nearest(kind: str) -> None:
    fmt = block_format(kind)
    span = float(np.abs(fmt.levels).max()) * 1.3
    values = np.random.default_rng(3).uniform(-span, span, 500).astype(np.float32)
    best = np.abs(values[:, None] - fmt.levels).min(axis=1)
    np.testing.assert_array_equal(np.abs(values - fmt.nearest_levels(values)), best)


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 4, 16, 32, 64]), st.integers(0, 2**32))
def test_bits_come_apart_as_they_were_joined(n_bits: int, width: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2**n_bits, (3, 2 * width * 8 // n_bits), dtype=np.uint8)
    packed = join_bits(numbers, n_bits, width)
    assert packed.shape == (3, 2 * width)
    np.testing.assert_array_equal(split_bits(packed, n_bits, width), numbers)


def test_names_come_in_any_case_and_others_are_refused() -> None:
    assert block_format("Q4_K") is FORMATS["q4_K"]
    with pytest.raises(RequestError, match="does not know the type 'iq2_xxs'") as caught:
        block_format("iq2_xxs")
    assert caught.value.hint is not None and "Q4_K" in caught.value.hint
