from __future__ import annotations

from pathlib import Path

import pytest

from localllm.hardware.gpus import FoundGPU, drm_gpus, nvidia_gpus, proc_gpus
from localllm.hardware.wheels import CUDA_WHEELS, install_line, wheel_for

BANNER = "| NVIDIA-SMI 550.54   Driver Version: 550.54   CUDA Version: 12.4 |"


def test_nvidia_smi_is_read() -> None:
    found = nvidia_gpus("NVIDIA GeForce RTX 4090, 8.9\nTesla, P40, 6.1\n", BANNER)
    assert found == [
        FoundGPU("nvidia", "NVIDIA GeForce RTX 4090", (8, 9), (12, 4)),
        FoundGPU("nvidia", "Tesla, P40", (6, 1), (12, 4)),
    ]
    assert nvidia_gpus("", "NVIDIA-SMI has failed") == []


def test_the_kernel_is_asked_where_the_tool_is_missing(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA RTX A2000\nIRQ: 5\n")
    assert proc_gpus(tmp_path) == [FoundGPU("nvidia", "NVIDIA RTX A2000")]
    assert proc_gpus(tmp_path / "missing") == []


def test_graphics_cards_are_told_by_their_makers(tmp_path: Path) -> None:
    for card, vendor in (("card0", "0x1002"), ("card1", "0x8086"), ("card1-DP-1", "0x8086"), ("card2", "0x1af4")):
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device" / "vendor").write_text(vendor + "\n")
    assert [gpu.maker for gpu in drm_gpus(tmp_path)] == ["amd", "intel"]


@pytest.mark.parametrize(
    ("capability", "cuda", "wheel"),
    [
        ((8, 9), (12, 4), "cu124"),
        ((8, 9), (12, 9), "cu125"),
        ((9, 0), (13, 1), "cu130"),
        ((6, 1), (13, 2), "cu125"),
        ((8, 9), (11, 8), "cu118"),
        ((9, 0), (11, 8), None),
        ((3, 5), (12, 4), None),
        (None, None, "cu132"),
    ],
)
def test_a_wheel_suits_driver_and_gpu(
    capability: tuple[int, int] | None, cuda: tuple[int, int] | None, wheel: str | None
) -> None:
    assert wheel_for(FoundGPU("nvidia", "x", capability, cuda), platform="linux") == wheel


def test_other_makers_have_wheels_too() -> None:
    assert wheel_for(FoundGPU("apple", "x"), platform="darwin") == "metal"
    assert wheel_for(FoundGPU("amd", "x"), platform="linux") == "rocm72"
    assert wheel_for(FoundGPU("amd", "x"), platform="win32") == "hip-radeon"
    assert wheel_for(FoundGPU("intel", "x"), platform="linux") == "vulkan"


def test_the_page_for_users_shows_the_same_lines() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text(encoding="utf-8")
    for name in [*(wheel.name for wheel in CUDA_WHEELS), "metal", "rocm72", "hip-radeon", "vulkan"]:
        assert install_line(name) in page


def test_the_lines_are_for_the_pinned_version() -> None:
    from localllm.hardware.wheels import PINNED

    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"llama-cpp-python=={PINNED}" in project
