"""ggml's encoders and decoders, held against gguf's NumPy ones and against what they must keep."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from localllm.errors import ModelError, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME
from localllm.llama.encoding import ENCODABLE, decode, encodable_type, encode, row_bytes

QUANTIZED = tuple(kind for kind in ENCODABLE if kind not in ("f32", "f16", "bf16"))
MAX_RELATIVE_ERROR = {
    "q2_K": 0.32, "q3_K": 0.18, "q4_0": 0.11, "q4_1": 0.09, "iq4_nl": 0.09, "iq4_xs": 0.09, "q4_K": 0.08,
    "q5_0": 0.055, "q5_1": 0.045, "q5_K": 0.04, "q6_K": 0.022, "q8_0": 0.007, "bf16": 0.002, "f16": 0.0003, "f32": 0,
}  # fmt: skip
"""Root mean square error over the root mean square of Gaussian weights."""


def gaussian(n_rows: int = 6, n_cols: int = 512, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_rows, n_cols)).astype(np.float32)


def gguf_type(kind: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(GGML_TYPES_BY_NAME[kind].id)


@pytest.mark.parametrize("kind", ENCODABLE)
def test_error_is_what_the_bits_allow(kind: str) -> None:
    rows = gaussian()
    coded = encode(kind, rows)
    assert coded.shape == (6, row_bytes(kind, 512)) and coded.dtype == np.uint8
    error = np.sqrt(((decode(kind, coded) - rows) ** 2).mean())
    assert error <= MAX_RELATIVE_ERROR[kind]


@pytest.mark.parametrize("kind", ENCODABLE)
def test_decoding_agrees_with_gguf_in_numpy(kind: str) -> None:
    coded = encode(kind, gaussian(seed=1))
    expected = gguf.dequantize(coded if kind != "f32" else coded.view(np.float32), gguf_type(kind))
    np.testing.assert_allclose(decode(kind, coded), expected.reshape(6, 512), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_plain_rounding_agrees_with_gguf_in_numpy(kind: str) -> None:
    rows = gaussian(seed=2)
    np.testing.assert_array_equal(encode(kind, rows), gguf.quantize(rows, gguf_type(kind)))


@pytest.mark.parametrize("kind", [kind for kind in QUANTIZED if kind != "q8_0"])
def test_important_columns_err_less(kind: str) -> None:
    rows = gaussian(seed=3)
    importance = np.ones(512, dtype=np.float32)
    importance[::8] = 1000.0
    plain, weighted = (decode(kind, encode(kind, rows, given)) for given in (None, importance))
    assert ((weighted - rows)[:, ::8] ** 2).mean() < 0.8 * ((plain - rows)[:, ::8] ** 2).mean()


@pytest.mark.parametrize("kind", ENCODABLE)
def test_rows_are_encoded_one_by_one(kind: str) -> None:
    rows = gaussian(seed=4)
    importance = np.abs(gaussian(1, 512, seed=5))[0]
    together = encode(kind, rows, importance)
    apart = np.concatenate([encode(kind, rows[i : i + 1], importance) for i in range(len(rows))])
    np.testing.assert_array_equal(together, apart)


def test_views_are_read_as_they_look() -> None:
    table = gaussian(512, 12, seed=6)
    np.testing.assert_array_equal(encode("q4_K", table.T), encode("q4_K", table.T.copy()))
    importance = np.abs(table[:, 0])
    np.testing.assert_array_equal(
        encode("q4_K", table.T, importance), encode("q4_K", table.T.copy(), importance.copy())
    )


def test_names_come_in_any_case() -> None:
    assert encodable_type("Q4_K").name == encodable_type("q4_k").name == "q4_K"
    np.testing.assert_array_equal(encode("Q4_K", gaussian()), encode("q4_K", gaussian()))


@pytest.mark.parametrize("kind", ["q4_k_m", "iq2_xxs", "q8_K", ""])
def test_other_types_are_refused_by_name(kind: str) -> None:
    with pytest.raises(RequestError, match="is no type") as caught:
        encode(kind, gaussian())
    assert caught.value.hint is not None and "Q4_K" in caught.value.hint


def test_no_rows_are_no_bytes() -> None:
    assert encode("q4_K", gaussian(0)).shape == (0, 288)
    assert decode("q4_K", np.empty((0, 288), dtype=np.uint8)).shape == (0, 512)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ENCODABLE)
def test_weights_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    rows = gaussian()
    rows[3, 77] = bad
    with pytest.raises(ModelError, match="NaN or infinite"):
        encode(kind, rows)


def test_weights_beyond_the_scales_range_are_refused() -> None:
    with pytest.raises(ModelError, match=r"as large as .* do not fit q8_0"):
        encode("q8_0", np.full((1, 32), 1e30, dtype=np.float32))


def test_shapes_that_do_not_fit_are_refused() -> None:
    rows = gaussian()
    with pytest.raises(ValueError, match="multiple of 256 weights, not 96"):
        encode("q4_K", gaussian(2, 96))
    with pytest.raises(ValueError, match="matrix of float32"):
        encode("q4_K", rows.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(512,\)"):
        encode("q4_K", rows, np.ones(256, dtype=np.float32))
    with pytest.raises(ValueError, match="multiple of 144 bytes"):
        decode("q4_K", np.zeros((2, 100), dtype=np.uint8))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_importance_must_be_a_weight(bad: float) -> None:
    importance = np.ones(512, dtype=np.float32)
    importance[5] = bad
    with pytest.raises(ValueError, match="finite and not negative"):
        encode("q4_K", gaussian(), importance)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_importance_of_nothing_is_survived(kind: str) -> None:
    coded = encode(kind, gaussian(), np.zeros(512, dtype=np.float32))
    assert np.isfinite(decode(kind, coded)).all()
