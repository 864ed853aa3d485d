from __future__ import annotations

from localllm.hardware.gpus import FoundGPU
from localllm.runtime.checkup import Finding, check_machine


def of(name: str, *gpus: FoundGPU) -> Finding:
    return next(finding for finding in check_machine(lambda: list(gpus)) if finding.name == name)


def test_an_idle_gpu_is_a_warning_with_the_line_that_ends_it() -> None:
    finding = of("gpu", FoundGPU("nvidia", "NVIDIA GeForce RTX 4090", (8, 9), (12, 4)))
    assert not finding.is_ok
    assert "RTX 4090 is not used" in finding.text
    assert "pip install" in finding.advice and "/whl/cu124" in finding.advice


def test_a_gpu_without_a_wheel_says_so() -> None:
    assert "no prebuilt" in of("gpu", FoundGPU("nvidia", "Tesla K80", (3, 7), (11, 4))).advice


def test_names_of_devices_are_made_harmless() -> None:
    assert "\x1b" not in of("gpu", FoundGPU("amd", "evil\x1b[2J")).text


def test_no_gpu_is_no_fault() -> None:
    assert of("gpu").is_ok


def test_memory_and_disk_are_told_in_numbers() -> None:
    assert "GB/s" in of("bandwidth").text
    assert " free" in of("ram").text and " free" in of("disk").text
