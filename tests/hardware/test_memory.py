from __future__ import annotations

from pathlib import Path

import pytest

from localllm.hardware import available_ram_bytes
from localllm.hardware.memory import cgroup_headroom_bytes

GIB = 1024**3


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc_self_cgroup"
    path.write_text("4:memory:/job/one\n1:name=systemd:/\n0::/user.slice/app.scope\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def test_no_control_groups_limit_nothing(root: Path, tmp_path: Path) -> None:
    assert cgroup_headroom_bytes(root, tmp_path / "none") is None


def test_v2_limit_less_usage_plus_reclaimable(root: Path, proc: Path) -> None:
    group = root / "user.slice" / "app.scope"
    write(group / "memory.max", f"{8 * GIB}\n")
    write(group / "memory.current", f"{5 * GIB}\n")
    write(group / "memory.stat", f"anon {3 * GIB}\ninactive_file {GIB}\nactive_file {GIB}\n")
    assert cgroup_headroom_bytes(root, proc) == 5 * GIB


def test_v2_parents_bind_their_children(root: Path, proc: Path) -> None:
    for group, limit in ((root / "user.slice" / "app.scope", "max"), (root / "user.slice", str(2 * GIB))):
        write(group / "memory.max", limit)
        write(group / "memory.current", str(GIB))
    assert cgroup_headroom_bytes(root, proc) == GIB


def test_v1_limit_is_read_and_its_unlimited_is_not(root: Path, proc: Path) -> None:
    memory = root / "memory"
    write(memory / "memory.limit_in_bytes", "9223372036854771712")
    write(memory / "memory.usage_in_bytes", str(GIB))
    assert cgroup_headroom_bytes(root, proc) is None
    write(memory / "job" / "one" / "memory.limit_in_bytes", str(4 * GIB))
    write(memory / "job" / "one" / "memory.usage_in_bytes", str(3 * GIB))
    write(memory / "job" / "one" / "memory.stat", f"total_inactive_file {GIB // 2}\ntotal_active_file 0\n")
    assert cgroup_headroom_bytes(root, proc) == GIB + GIB // 2


def test_a_container_whose_path_is_not_mounted_reads_the_root(root: Path, proc: Path) -> None:
    write(root / "memory.max", str(GIB))
    write(root / "memory.current", str(2 * GIB))
    assert cgroup_headroom_bytes(root, proc) == 0


@pytest.mark.parametrize("text", ["", "max", "many", "1\n2"])
def test_odd_files_limit_nothing(text: str, root: Path, proc: Path) -> None:
    write(root / "memory.max", text)
    write(root / "memory.current", "1")
    assert cgroup_headroom_bytes(root, proc) is None


def test_this_machine_has_some_memory() -> None:
    assert available_ram_bytes() > 64 * 1024**2
