"""Taking a file into our own folder: whole or not at all, and never at the cost of the original."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localllm.errors import InvalidModelFile, ModelNotFound, NotEnoughDisk, RequestError
from localllm.gguf import read_header
from localllm.hub.notes import read_note
from localllm.store import importing, resolve
from localllm.store.importing import How, import_model
from tests.gguf.raw import ARCH, TEXT, U16, gguf_bytes, pair, tensor
from tests.store.layouts import sha256, tiny_gguf, write_file


def bring(source: Path, name: str | None = None, how: How = How.LINK) -> Path:
    return import_model(source, name, how, lambda done, n: None).path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_file(tmp_path / "downloads" / "model-Q4_K_M.gguf")


def write_split(folder: Path) -> Path:
    import struct

    def count(n: int) -> bytes:
        return pair("split.count", U16, n)

    total = pair("split.tensors.count", 5, struct.pack("<i", 2))
    head = tiny_gguf(pairs=(pair("split.no", U16, 0), count(2), total))
    second = gguf_bytes([ARCH, pair("split.no", U16, 1), count(2)], [tensor("b")])
    write_file(folder / "s-Q8_0-00002-of-00002.gguf", second)
    return write_file(folder / "s-Q8_0-00001-of-00002.gguf", head)


@pytest.mark.parametrize("how", list(How))
def test_name_means_the_file_from_then_on(how: How, source: Path, own: Path) -> None:
    path = bring(source, "coder", how)
    assert path == own / "coder.gguf" == resolve("coder")
    assert path.read_bytes() == tiny_gguf()
    assert source.exists() is (how is not How.MOVE)
    assert path.is_symlink() is (how is How.LINK)
    assert read_note(path)["imported_from"] == str(source)


def test_name_is_that_of_the_file_unless_given(source: Path, own: Path) -> None:
    assert bring(source) == own / "model-Q4_K_M.gguf" == resolve("model:Q4_K_M")
    odd = write_file(source.with_name(".ünï cödé (1).gguf"))
    assert bring(odd).name == "n-c-d-1-.gguf"


def test_copy_knows_its_digest(source: Path) -> None:
    assert read_note(bring(source, "m", How.COPY))["sha256"] == sha256(tiny_gguf())


def test_progress_counts_up_to_all_bytes(source: Path) -> None:
    seen: list[tuple[int, int]] = []
    import_model(source, "m", How.COPY, lambda done, n: seen.append((done, n)))
    assert seen[-1] == (len(tiny_gguf()), len(tiny_gguf()))


@pytest.mark.parametrize("how", list(How))
def test_split_model_comes_with_all_its_parts(how: How, tmp_path: Path) -> None:
    path = bring(write_split(tmp_path / "from"), "big", how)
    assert path.name == "big-00001-of-00002.gguf"
    assert len(read_header(path).parts) == 2
    assert resolve("big") == path
    assert bool(list((tmp_path / "from").iterdir())) is (how is not How.MOVE)


def test_split_model_without_a_part_is_refused(tmp_path: Path, own: Path) -> None:
    first = write_split(tmp_path)
    (tmp_path / "s-Q8_0-00002-of-00002.gguf").unlink()
    with pytest.raises(InvalidModelFile, match="1 of its 2 parts are missing"):
        bring(first)
    assert not own.exists()


@pytest.mark.parametrize("content", [b"<html>", b"GGUF", tiny_gguf()[:-4096], gguf_bytes([pair("a", TEXT, "b")])])
def test_what_is_no_sound_model_is_refused(content: bytes, tmp_path: Path, own: Path) -> None:
    with pytest.raises(InvalidModelFile):
        bring(write_file(tmp_path / "m.gguf", content))
    assert not own.exists()


def test_projector_is_refused_by_name(tmp_path: Path) -> None:
    file = write_file(tmp_path / "m.gguf", tiny_gguf(pairs=(pair("general.type", TEXT, "mmproj"),)))
    with pytest.raises(InvalidModelFile, match="a projector for images"):
        bring(file)


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        bring(tmp_path / "m.gguf")


@pytest.mark.parametrize("name", ["", "a/b", "../m", ".hidden", "a b", "@lab", "m.gguf", "x" * 200, "a\n", "c:d", "-n"])
def test_odd_names_are_refused(name: str, source: Path, own: Path) -> None:
    with pytest.raises(RequestError, match="is no name for a model"):
        bring(source, name)
    assert not own.exists()


@pytest.mark.parametrize("how", list(How))
def test_name_that_is_taken_is_refused_and_nothing_changes(how: How, source: Path, own: Path) -> None:
    first = write_file(own / "m.gguf", tiny_gguf(1))
    for name in ("m", "M"):
        with pytest.raises(RequestError, match="is the name of another model"):
            bring(source, name, how)
    assert first.read_bytes() == tiny_gguf(1) and source.is_file()


def test_demo_models_name_is_taken(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.store.demo.demo_model", lambda: source)
    with pytest.raises(RequestError, match="smollm2 is the name of another model"):
        bring(source, "smollm2")


def test_link_is_not_moved(source: Path, tmp_path: Path) -> None:
    (tmp_path / "l.gguf").symlink_to(source)
    with pytest.raises(RequestError, match="is a link"):
        bring(tmp_path / "l.gguf", "m", How.MOVE)
    assert source.is_file()
    assert bring(tmp_path / "l.gguf", "m", How.COPY).read_bytes() == tiny_gguf()


def test_full_disk_is_found_before_the_copy(source: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(NotEnoughDisk, match="the disk has 100 free"):
        bring(source, "m", How.COPY)
    assert list(own.iterdir()) == [] and source.is_file()
    assert bring(source, "m", How.MOVE).is_file()


def test_move_to_another_disk_is_a_copy_and_then_the_end_of_the_source(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", link)
    path = bring(source, "m", How.MOVE)
    assert path.read_bytes() == tiny_gguf() and not source.exists()
    assert read_note(path)["sha256"] == sha256(tiny_gguf())


@pytest.mark.parametrize("how", [How.COPY, How.MOVE])
def test_interrupted_import_leaves_nothing_and_keeps_the_source(
    how: How, tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_split(tmp_path)
    calls: list[Path] = []

    def interrupted(path: Path, note: object) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(importing, "write_note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bring(first, "m", how)
    assert list(own.iterdir()) == []
    assert len(read_header(first).parts) == 2


def test_folder_that_cannot_be_written_is_an_error(source: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(RequestError, match="Operation not permitted") as caught:
        bring(source, "m")
    assert caught.value.hint == "Make a copy with --copy."
    assert os.listdir(own) == []


def test_link_whose_original_is_gone_says_so_and_gives_its_name_free(source: Path, own: Path) -> None:
    bring(source, "m")
    source.unlink()
    with pytest.raises(ModelNotFound, match=r"m was imported from .*model-Q4_K_M\.gguf, which is not there any more"):
        resolve("m")
    write_file(source)
    (own / "m.gguf").unlink()
    (own / "m.gguf").symlink_to(source.with_name("elsewhere.gguf"))
    assert bring(source, "m", How.COPY).read_bytes() == tiny_gguf()
    assert not (own / "m.gguf").is_symlink() and resolve("m") == own / "m.gguf"


def test_original_that_cannot_be_deleted_is_an_error_and_the_import_stands(
    source: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "unlink", lambda path: path != source)
    with pytest.raises(RequestError, match=r"m is imported; .*model-Q4_K_M\.gguf could not be deleted"):
        bring(source, "m", How.MOVE)
    assert resolve("m").read_bytes() == source.read_bytes() == tiny_gguf()
