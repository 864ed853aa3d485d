from __future__ import annotations

import pytest

from localllm.gguf.weights import Matrix
from localllm.hardware import Device
from localllm.hardware.repack import is_repacked, repacked_types

X86 = {"AVX2", "REPACK"}


def gpu(name: str) -> Device:
    return Device(name, "a GPU", "gpu", 8 << 30, 8 << 30)


def test_what_the_cpu_likes_decides() -> None:
    assert "q4_K" in repacked_types(X86, ()) and "q6_K" not in repacked_types(X86, ())
    assert {"q6_K", "q8_0"} <= repacked_types({"NEON", "DOTPROD", "REPACK"}, ())


def test_nothing_is_repacked_without_that_build_or_beside_a_gpu_with_buffers_in_ram() -> None:
    assert not repacked_types({"AVX2"}, ())
    assert not repacked_types(X86, (gpu("CUDA0"),))
    assert repacked_types(X86, (gpu("MTL0"),))


@pytest.mark.parametrize(("kind", "n_out", "expected"), [("q4_K", 16, True), ("q4_K", 12, False), ("f16", 16, False)])
def test_rows_come_in_eights(kind: str, n_out: int, expected: bool) -> None:
    assert is_repacked(Matrix(kind, 256, n_out, 1, 1), {"q4_K"}) is expected
