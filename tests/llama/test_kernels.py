from __future__ import annotations

import pytest

from localllm.errors import EngineError
from localllm.llama import cpu_features
from localllm.llama.kernels import Bench, Product


@pytest.fixture
def bench() -> Bench:
    return Bench("CPU", 1)


@pytest.mark.parametrize("kind", ["f32", "f16", "q4_K", "q6_K", "q8_0", "q4_1"])
def test_every_type_takes_time(bench: Bench, kind: str) -> None:
    with bench:
        product = Product(kind, 256, 64, is_repacked=False)
        assert 0 < bench.products_s([product], 1) < 5
        assert 0 < bench.products_s([product, product], 32) < 5


@pytest.mark.skipif("REPACK" not in cpu_features(), reason="this llama.cpp does not repack")
def test_repacked_and_plain_weights_may_be_mixed(bench: Bench) -> None:
    with bench:
        plain, woven = (Product("q4_0", 256, 64, is_repacked=flag) for flag in (False, True))
        assert bench.products_s([plain, woven, plain], 1) > 0


def test_layers_take_time_between_their_products(bench: Bench) -> None:
    with bench:
        assert 0 < bench.between_s(64, 128, 32, 2) < 5


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(EngineError, match="CUDA9"):
        Bench("CUDA9", 1)
