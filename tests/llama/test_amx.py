"""Whether AMX is used: tried once for each build, in a process of its own, and left alone where it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from localllm.llama import amx, cpu_features
from localllm.llama import library as library_module
from localllm.llama.model import Model
from tests.tiny_model import write_tiny_model

WITH_AMX = frozenset({"AVX512", "AMX_INT8", "REPACK"})


class Trial:
    """Stands for the process that tries."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.n_runs = 0

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        self.n_runs += 1
        return subprocess.CompletedProcess(command, self.code)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    amx.amx_fails.cache_clear()
    yield
    amx.amx_fails.cache_clear()


def build(monkeypatch: pytest.MonkeyPatch, features: frozenset[str], trial: Trial) -> None:
    monkeypatch.setattr(library_module, "used_features", lambda: features)
    monkeypatch.setattr(amx, "used_features", lambda: features)
    monkeypatch.setattr(subprocess, "run", trial)


def test_build_without_amx_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(-11)
    build(monkeypatch, frozenset({"AVX2", "REPACK"}), trial)
    assert not amx.amx_fails()
    assert trial.n_runs == 0
    assert cpu_features() == {"AVX2", "REPACK"}


@pytest.mark.parametrize(("code", "fails"), [(0, False), (-11, True), (-4, True)])
def test_build_is_tried_once_and_remembered(monkeypatch: pytest.MonkeyPatch, code: int, fails: bool) -> None:
    trial = Trial(code)
    build(monkeypatch, WITH_AMX, trial)
    assert amx.amx_fails() is fails
    amx.amx_fails.cache_clear()
    assert amx.amx_fails() is fails, "another process reads what the first one found"
    assert trial.n_runs == 1
    assert cpu_features() == ({"AVX512"} if fails else WITH_AMX)


def test_trial_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    build(monkeypatch, WITH_AMX, Trial(0))
    monkeypatch.setattr(subprocess, "run", hang)
    assert amx.amx_fails()


def test_model_is_loaded_without_kernels_that_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    monkeypatch.setattr("localllm.llama.model.amx_fails", lambda: True)
    with Model(path) as model:
        assert not any(buffer.device in ("AMX", "CPU_REPACK") for buffer in model.buffers)


def test_real_trial_ends_as_the_build_deserves() -> None:
    """Where llama.cpp has no AMX, there is no such buffer; where it has, this is the trial itself."""
    done = subprocess.run([sys.executable, "-m", "localllm.llama.amx_trial"], capture_output=True, check=False)
    if amx.FEATURE not in library_module.used_features():
        assert done.returncode == 1
    else:
        assert (done.returncode != 0) is amx.amx_fails()


def test_rebuild_line_names_the_installed_version() -> None:
    assert amx.REBUILD.endswith(f"llama-cpp-python=={version('llama-cpp-python')}")
