"""How many threads to compute with.

A decode is bound by memory and ends with its slowest thread, so a second thread on a core (SMT) and an
efficiency core beside performance cores both make it slower.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Set
from pathlib import Path

from localllm.hardware.memory import CGROUP_ROOT, PROC_SELF_CGROUP, cgroup_directories

SYS_CPU = Path("/sys/devices/system/cpu")
SYS_CPU_CORE = Path("/sys/devices/cpu_core")

SLOW_CORE_SHARE = 0.8
"""Below this share of the fastest core's speed it is an efficiency core; favoured cores differ by a tenth."""


def n_compute_threads() -> int:
    """Return the threads to use: the performance cores this process may run on, within its CPU quota."""
    if sys.platform == "darwin":
        return _n_apple_performance_cores() or _n_physical_cores()
    if sys.platform != "linux":
        return _n_physical_cores()
    allowed = os.sched_getaffinity(0)
    cores = performance_cores(hybrid_cores(allowed, SYS_CPU_CORE), SYS_CPU) or _n_physical_cores()
    quota = cgroup_cpu_quota()
    # Threads beyond the quota are stopped for the rest of each period, and the others wait for them.
    return max(1, min(cores, int(quota) if quota is not None else cores))


def n_busy_cores(seconds: float = 0.1) -> float:
    """Return how many logical CPUs all programs together keep busy, over so many seconds."""
    import psutil

    return float(psutil.cpu_percent(seconds)) / 100 * (os.cpu_count() or 1)


def hybrid_cores(allowed: Set[int], sys_cpu_core: Path) -> Set[int]:
    """Return those of the `allowed` logical CPUs that Intel's hybrid processors call performance cores; else all.

    Args:
        allowed: the CPUs this process may run on.
        sys_cpu_core: the kernel's /sys/devices/cpu_core, which only those have.
    """
    ranges = [part.partition("-") for part in (_read(sys_cpu_core / "cpus") or "").split(",") if part]
    fast = {cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)}
    return allowed & fast or allowed


def performance_cores(allowed: Set[int], sys_cpu: Path) -> int:
    """Return how many physical cores, of the `allowed` logical CPUs, are about as fast as the fastest.

    Args:
        allowed: the CPUs this process may run on.
        sys_cpu: the kernel's /sys/devices/system/cpu.

    Returns:
        0 where the kernel says nothing about cores.
    """
    speeds: dict[str, int] = {}
    for cpu in sorted(allowed):
        folder = sys_cpu / f"cpu{cpu}"
        core = _core_of(folder)
        if core is not None:
            speeds[core] = max(speeds.get(core, 0), _speed_of(folder))
    fastest = max(speeds.values(), default=0)
    return sum(1 for speed in speeds.values() if speed >= fastest * SLOW_CORE_SHARE)


def cgroup_cpu_quota(root: Path = CGROUP_ROOT, proc_self_cgroup: Path = PROC_SELF_CGROUP) -> float | None:
    """Return the CPUs' worth of time that the control groups allow; None where nothing is limited."""
    quotas = [_quota_v2(group) for group in cgroup_directories("", root, proc_self_cgroup)]
    for mount in ("cpu", "cpu,cpuacct"):
        quotas += [_quota_v1(group) for group in cgroup_directories("cpu", root / mount, proc_self_cgroup)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _n_apple_performance_cores() -> int:
    """Return the cores of the fastest kind, as macOS counts them; 0 where it does not say."""
    import subprocess

    try:
        asked = subprocess.run(
            ["sysctl", "-n", "hw.perflevel0.physicalcpu"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(asked.stdout) if asked.stdout.strip().isdigit() else 0


def _n_physical_cores() -> int:
    # psutil costs 20 ms to import, and Linux does not need it.
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _core_of(folder: Path) -> str | None:
    """Return what identifies a CPU's core: the list of its threads, under its newer or its older name."""
    topology = folder / "topology"
    return _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")


def _speed_of(folder: Path) -> int:
    """Return a core's speed, in a unit that is the same for all of a machine; 0 is unknown.

    The scheduler's capacity is preferred to kHz: cores of equal clock differ.
    """
    text = _read(folder / "cpu_capacity") or _read(folder / "cpufreq" / "cpuinfo_max_freq")
    return int(text) if text and text.isdigit() else 0


def _quota_v2(group: Path) -> float | None:
    return _ratio((_read(group / "cpu.max") or "").split())


def _quota_v1(group: Path) -> float | None:
    return _ratio([_read(group / "cpu.cfs_quota_us") or "", _read(group / "cpu.cfs_period_us") or ""])


def _ratio(fields: list[str]) -> float | None:
    """Return quota / period; "max" and -1, which are no limit, are not digits."""
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or not int(fields[1]):
        return None
    return int(fields[0]) / int(fields[1])


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
