"""How much RAM is free for a model: what the system has, and what the control group of this process allows.

"Available" counts caches that the kernel gives back under pressure: a mapped model file lives in the page
cache.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_SELF_CGROUP = Path("/proc/self/cgroup")


def available_ram_bytes() -> int:
    """Return the bytes that can be taken now without swapping, by the system and by each control group."""
    # psutil costs 20 ms to import, which most commands need not pay.
    import psutil

    available = int(psutil.virtual_memory().available)
    headroom = cgroup_headroom_bytes() if sys.platform == "linux" else None
    return available if headroom is None else max(0, min(available, headroom))


def cgroup_headroom_bytes(root: Path = CGROUP_ROOT, proc_self_cgroup: Path = PROC_SELF_CGROUP) -> int | None:
    """Return the bytes that the control groups of this process still allow; None where nothing is limited.

    A group's limit binds its descendants too, so each group up to the root is asked. Version 2 is read where
    its files are, else version 1; in a container the path that the kernel names may not be mounted, and is
    skipped.
    """
    rooms = [
        _headroom(group, "memory.max", "memory.current", ("inactive_file", "active_file"))
        for group in cgroup_directories("", root, proc_self_cgroup)
    ] + [
        _headroom(
            group,
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            ("total_inactive_file", "total_active_file"),
        )
        for group in cgroup_directories("memory", root / "memory", proc_self_cgroup)
    ]
    return min((room for room in rooms if room is not None), default=None)


def cgroup_directories(controller: str, root: Path, proc_self_cgroup: Path) -> Iterator[Path]:
    """Yield this process's group under `root`, its parents, and `root`; `controller` "" is version 2."""
    try:
        lines = proc_self_cgroup.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for depth in range(len(parts), 0, -1):
                yield root.joinpath(*parts[:depth])
    yield root


def _headroom(group: Path, limit_name: str, usage_name: str, reclaimable: tuple[str, str]) -> int | None:
    """Return a group's limit less what it cannot give back; None without a limit (a word, or absurd)."""
    limit = _read_int(group / limit_name)
    usage = _read_int(group / usage_name)
    if limit is None or usage is None or limit >= 1 << 60:
        return None
    stat = _read_stat(group / "memory.stat")
    return max(0, limit - usage + sum(stat.get(name, 0) for name in reclaimable))


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _read_stat(path: Path) -> dict[str, int]:
    """Return the "name value" lines of a memory.stat file."""
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
        return {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return {}
