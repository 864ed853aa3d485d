from __future__ import annotations

from pathlib import Path

import pytest

from localllm.hardware import n_compute_threads
from localllm.hardware.cpu import cgroup_cpu_quota, performance_cores


def make_cpu(root: Path, cpu: int, *, siblings: str, max_khz: int = 0, capacity: int = 0) -> None:
    folder = root / f"cpu{cpu}"
    (folder / "topology").mkdir(parents=True)
    (folder / "topology" / "core_cpus_list").write_text(f"{siblings}\n")
    if max_khz:
        (folder / "cpufreq").mkdir()
        (folder / "cpufreq" / "cpuinfo_max_freq").write_text(f"{max_khz}\n")
    if capacity:
        (folder / "cpu_capacity").write_text(f"{capacity}\n")


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """Two performance cores with two threads each, one of them favoured, and four efficiency cores."""
    for core, khz in ((0, 5_000_000), (1, 4_700_000)):
        for thread in (2 * core, 2 * core + 1):
            make_cpu(tmp_path, thread, siblings=f"{2 * core}-{2 * core + 1}", max_khz=khz)
    for cpu in range(4, 8):
        make_cpu(tmp_path, cpu, siblings=str(cpu), max_khz=3_600_000)
    return tmp_path


def test_second_threads_and_efficiency_cores_do_not_count(hybrid: Path) -> None:
    assert performance_cores(set(range(8)), hybrid) == 2


def test_affinity_leaves_only_allowed_cores(hybrid: Path) -> None:
    assert performance_cores({1}, hybrid) == 1
    assert performance_cores({4, 5, 6}, hybrid) == 3


def test_capacity_tells_cores_of_equal_clock_apart(tmp_path: Path) -> None:
    for cpu, capacity in enumerate((1024, 1024, 400, 400)):
        make_cpu(tmp_path, cpu, siblings=str(cpu), max_khz=2_000_000, capacity=capacity)
    assert performance_cores({0, 1, 2, 3}, tmp_path) == 2


def test_cores_without_speeds_all_count(tmp_path: Path) -> None:
    for cpu in range(4):
        make_cpu(tmp_path, cpu, siblings=str(cpu))
    assert performance_cores({0, 1, 2, 3}, tmp_path) == 4


def test_no_topology_is_no_answer(tmp_path: Path) -> None:
    assert performance_cores({0, 1}, tmp_path) == 0


@pytest.mark.parametrize(
    ("file", "text", "quota"),
    [
        ("cpu.max", "250000 100000", 2.5),
        ("cpu.max", "max 100000", None),
        ("cpu.max", "", None),
        ("cpu.max", "1 0", None),
    ],
)
def test_v2_quota(file: str, text: str, quota: float | None, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert cgroup_cpu_quota(tmp_path, tmp_path / "none") == quota


def test_v1_quota_of_the_group_and_its_parents(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.write_text("3:cpu,cpuacct:/job\n")
    for folder, quota in ((tmp_path / "cpu,cpuacct", "-1"), (tmp_path / "cpu,cpuacct" / "job", "150000")):
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text(quota)
        (folder / "cpu.cfs_period_us").write_text("100000")
    assert cgroup_cpu_quota(tmp_path, proc) == 1.5


def test_this_machine_has_a_thread() -> None:
    assert n_compute_threads() >= 1
