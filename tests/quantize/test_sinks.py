"""The first tokens' share in what is known of the inputs of keys and values."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, TensorInfo
from localllm.quantize import TensorScale
from localllm.quantize import moments as moments_module
from localllm.quantize.gptq import SecondMoments, proxy_loss
from localllm.quantize.moments import Factors
from localllm.quantize.scaling import ScaledMoments
from localllm.quantize.sinks import SINK_SHARE, WithSinks, feeds_sinks
from tests.quantize.gptq.samples import moments, weights

N_COLS = 64
PLAIN, SINKS = moments(N_COLS, seed=1), moments(N_COLS, n_tokens=40, rank=3, seed=2)
KEY, VALUE, QUERY = (f"blk.0.attn_{part}.weight" for part in "kvq")


class Source:
    """One layer's attention, which reads one input (a `SinkSource`)."""

    def __init__(self, plain: SecondMoments | None = PLAIN, sinks: SecondMoments | None = SINKS) -> None:
        self._plain, self._sinks = plain, sinks

    def covers(self, weight: str) -> bool:
        return weight.startswith("blk.0.attn")

    def input_of(self, weight: str) -> str:
        return "blk.0.attn_output" if "output" in weight else "blk.0.attn_q"

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        return self._plain

    def sink_moments(self, weight: str) -> SecondMoments | None:
        return self._sinks


def unit(h: np.ndarray) -> np.ndarray:
    h = h.astype(np.float64)
    return h / np.trace(h) * len(h)


@pytest.mark.parametrize("name", [KEY, VALUE])
def test_keys_and_values_have_half_of_each_in_units_of_their_mean_square(name: str) -> None:
    found = WithSinks(Source()).second_moments(name, 0)
    assert found is not None and SINK_SHARE == 0.5
    np.testing.assert_allclose(
        found.total / found.n_tokens, (unit(PLAIN.total) + unit(SINKS.total)) / 2, rtol=1e-6, atol=1e-7
    )
    assert np.trace(found.total) == pytest.approx(N_COLS)


@pytest.mark.parametrize(
    "name", [QUERY, "blk.0.attn_output.weight", "blk.0.attn_qkv.weight", "blk.0.attn_k_norm.weight", "output.weight",
             "blk.0.attn_kv_b.weight", "blk.0.attn_v.bias", "enc.blk.0.attn_k.weight"]
)  # fmt: skip
def test_all_others_have_the_plain_moments(name: str) -> None:
    assert not feeds_sinks(name)
    assert WithSinks(Source()).second_moments(name, 0) is PLAIN


@pytest.mark.parametrize("sinks", [None, SecondMoments(np.zeros((N_COLS, N_COLS), dtype=np.float32), 40)])
def test_moments_of_which_no_first_tokens_are_known_stay_plain(sinks: SecondMoments | None) -> None:
    assert WithSinks(Source(sinks=sinks)).second_moments(KEY, 0) is PLAIN


def test_what_no_token_reached_stays_so() -> None:
    assert WithSinks(Source(plain=None)).second_moments(KEY, 0) is None


def test_first_tokens_of_other_inputs_are_refused() -> None:
    with pytest.raises(RequestError, match="64 and 32 columns"):
        WithSinks(Source(sinks=moments(32))).second_moments(KEY, 0)


def test_keys_and_values_share_a_factor_and_queries_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    factorize = moments_module.factorize
    monkeypatch.setattr(moments_module, "factorize", lambda *given: made.append(given) or factorize(*given))
    factors = Factors(WithSinks(Source()))
    in_a_file = {part: factors.of(tensor(f"blk.0.attn_{part}.weight"), 0) for part in ("k", "output", "q", "v")}
    assert in_a_file["k"] is in_a_file["v"] and in_a_file["k"] is not in_a_file["q"]
    assert len(made) == 3


def tensor(name: str) -> TensorInfo:
    kind = GGML_TYPES_BY_NAME["f16"]
    return TensorInfo(name, (N_COLS, 32), kind, 0, 2 * N_COLS * 32)


def test_an_error_costs_the_same_after_scaling() -> None:
    cols = np.random.default_rng(0).lognormal(0, 1, (1, N_COLS)).astype(np.float32)
    before = WithSinks(Source())
    after = ScaledMoments(before, {KEY: TensorScale(cols)})
    error = weights(8, N_COLS)
    costs = [
        proxy_loss(e, found)
        for e, source in ((error, before), (error * cols, after))
        if (found := source.second_moments(KEY, 0)) is not None
    ]
    assert costs[1] == pytest.approx(costs[0], rel=1e-4)
    assert after.input_of(KEY) == after.input_of(VALUE) != after.input_of(QUERY)
