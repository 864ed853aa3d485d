"""Smaller plans where llama.cpp does not get its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import AllocationFailed
from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.runtime.recovery import open_what_fits
from tests.hardware.shapes import GIB, LLAMA_8B
from tests.tiny_model import write_tiny_model

GPU = Device("CUDA0", "simulated", "gpu", 24 * GIB, 24 * GIB)


def planner(options: LoadOptions) -> LoadPlan:
    return plan_load(LLAMA_8B, "m", (GPU,), options, 64 * GIB, n_cores=1)


class Loader:
    """Has memory for so many layers on the GPU, and so many cells."""

    def __init__(self, n_layers: int, n_ctx: int) -> None:
        self.most, self.tried = (n_layers, n_ctx), []

    def __call__(self, plan: LoadPlan) -> LoadPlan:
        self.tried.append((plan.n_gpu_layers, plan.n_ctx))
        if plan.n_gpu_layers > self.most[0] or plan.n_ctx > self.most[1]:
            raise AllocationFailed("out of memory")
        return plan


def test_what_fits_at_once_has_no_note() -> None:
    assert open_what_fits(LoadOptions(), planner, Loader(99, 1 << 20)).notes == planner(LoadOptions()).notes


def test_layers_leave_the_gpu_until_it_fits_and_that_is_said() -> None:
    plan = open_what_fits(LoadOptions(n_ctx=4096), planner, Loader(20, 4096))
    assert 10 < plan.n_gpu_layers <= 20
    assert any("did not get the memory" in note and "layers are on the GPU" in note for note in plan.notes)


def test_then_the_context_becomes_shorter() -> None:
    loader = Loader(0, 4096)
    plan = open_what_fits(LoadOptions(n_slots=4), planner, loader)
    assert (plan.n_gpu_layers, plan.n_ctx) == (0, 4096)
    assert loader.tried[-2][1] == 8192


def test_what_was_asked_for_is_not_changed() -> None:
    with pytest.raises(AllocationFailed):
        open_what_fits(LoadOptions(n_ctx=8192, gpu_layers=33), planner, Loader(0, 4096))
    asked = LoadOptions(n_ctx=8192, gpu_layers=33)
    loader = Loader(0, 4096)
    with pytest.raises(AllocationFailed):
        open_what_fits(replace(asked, n_ctx=None), planner, loader)
    assert {n_layers for n_layers, _ in loader.tried} == {33}


_UNDER_A_LIMIT = """
import json, resource, sys
from pathlib import Path
from localllm.hardware import LoadOptions
from localllm.runtime.local import LocalBackend
path = Path(sys.argv[1])
options = LoadOptions(n_slots=4, n_threads=1)
LocalBackend(path, LoadOptions(n_slots=4, n_threads=1, max_n_ctx=2048)).close()
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]), -1))
backend = LocalBackend(path, options)
print(json.dumps([backend.info.n_cells, list(backend.info.plan_notes)]), flush=True)
backend.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
def test_llama_cpp_refused_by_the_system_gets_a_smaller_context(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "wide.gguf", n_layer=4, n_head=4, n_head_kv=4, head_dim=256, n_ctx=1 << 17)
    # A cell takes 16 KiB, so 16,384 of them take 256 MiB and 4,096 of them 64 MiB.
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_A_LIMIT, str(path), str(200 << 20)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    n_cells, notes = json.loads(done.stdout)
    assert 2048 <= n_cells < 16384
    assert any("did not get the memory" in note for note in notes)
