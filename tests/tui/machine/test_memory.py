"""Who holds the memory, and the bar that shows it."""

from __future__ import annotations

import subprocess
import sys

from localllm.runtime.backend import MemoryUse
from tui.machine.memory import RAM, Memory, Part, device_memory, ram_memory, read_ram
from tui.widgets.memory_gauge import bar

GIB = 1 << 30
CPU_ONLY = MemoryUse(weights_bytes=4 * GIB, kv_bytes=2 * GIB, compute_bytes=GIB, ram_bytes=7 * GIB, devices={})
SPLIT = MemoryUse(weights_bytes=9 * GIB, kv_bytes=GIB, compute_bytes=GIB, ram_bytes=3 * GIB, devices={"CUDA0": 8 * GIB})


def parts(memory: Memory) -> dict[str, int]:
    return {part.name: part.n_bytes // GIB for part in memory.parts}


def test_ram_is_shared_out_and_adds_up() -> None:
    ram = RAM(32 * GIB, 20 * GIB, 3 * GIB)
    memory = ram_memory(ram, [CPU_ONLY, SPLIT], served_bytes=2 * GIB)
    assert parts(memory) == {"others": 9, "weights": 4, "KV": 2, "compute": 1, "shared with a GPU": 3, "served": 2}
    assert memory.free_bytes == 11 * GIB
    assert parts(ram_memory(RAM(8 * GIB, 8 * GIB, GIB), [])) == {}


def test_a_device_is_shared_between_us_and_others() -> None:
    device = {
        "name": "CUDA0",
        "description": "simulated",
        "memory_total_bytes": 24 * GIB,
        "memory_free_bytes": 12 * GIB,
    }
    memory = device_memory(device, [CPU_ONLY, SPLIT])
    assert parts(memory) == {"others": 4, "models": 8}
    assert memory.free_bytes == 12 * GIB


def test_a_bar_is_as_wide_as_it_may_be_and_shows_everybody() -> None:
    memory = Memory("RAM", 100 * GIB, (Part("others", 50 * GIB), Part("KV", 1), Part("weights", 20 * GIB)))
    assert bar(memory, 20) == [("others", 10), ("KV", 1), ("weights", 4), ("free", 5)]
    full = Memory("RAM", 10, (Part("others", 20), Part("KV", 20)))
    assert sum(n for _, n in bar(full, 20)) == 20


def test_what_children_hold_is_ours() -> None:
    n_bytes = 64 << 20
    program = f"held = b'x' * {n_bytes}\nprint('held', flush=True)\ninput()"
    before = read_ram()
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n" or sys.platform == "win32"
    after = read_ram()
    child.communicate(b"\n")
    assert after.ours_bytes - before.ours_bytes > n_bytes // 2
    assert after.total_bytes == before.total_bytes > after.available_bytes
