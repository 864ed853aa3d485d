"""What is written is what gguf's own writer writes, and what we read again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import NotEnoughDisk, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, read_header
from localllm.gguf.new_file import new_file
from localllm.gguf.writing import TensorSpec, head_bytes, number_pair, padding, text_pair, texts_pair

F32 = GGML_TYPES_BY_NAME["f32"]
PAIRS = [
    text_pair("general.architecture", "llama"),
    text_pair("general.name", "Grüße"),
    number_pair("a.u32", "u32", 7),
    number_pair("a.f32", "f32", 0.5),
    number_pair("a.bool", "bool", True),
    texts_pair("a.texts", ["one", "", "drei"]),
]


def test_gguf_writes_the_same_bytes(tmp_path: Path) -> None:
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.add_name("Grüße")
    writer.add_uint32("a.u32", 7)
    writer.add_float32("a.f32", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_array("a.texts", ["one", "", "drei"])
    for name in ("one", "two"):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = values.tobytes() + padding(values.nbytes)
    ours = head_bytes(PAIRS, [TensorSpec(name, (5, 3), F32) for name in ("one", "two")]) + 2 * data
    assert ours == (tmp_path / "theirs.gguf").read_bytes()


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_we_read_what_we_write(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "m.gguf"
    pairs = [*PAIRS, number_pair("general.alignment", "u32", alignment)]
    spec = TensorSpec("one", (5, 3), F32)
    path.write_bytes(head_bytes(pairs, [spec], alignment) + bytes(60) + padding(60, alignment))
    header = read_header(path)
    assert header.alignment == alignment and header.tensors[0].shape == (5, 3)
    assert header.metadata["general.name"] == "Grüße" and header.metadata_types["a.f32"] == "f32"
    data = path.read_bytes()
    assert [data[slice(*header.metadata_spans[key])] for key in header.metadata] == pairs


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [("", (1,), "f32"), ("x" * 64, (1,), "f32"), ("x", (), "f32"), ("x", (1, 0), "f32"), ("x", (96, 2), "q4_K")],
)
def test_impossible_tensors_cannot_be_made(name: str, shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(ValueError, match=r"name|shape"):
        TensorSpec(name, shape, GGML_TYPES_BY_NAME[kind])


def fail_in(path: Path, error: BaseException) -> None:
    with new_file(path) as file:
        file.write(b"new")
        raise error


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
def test_a_file_that_failed_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        fail_in(path, error)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with new_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_clear_error(tmp_path: Path, code: int) -> None:
    with pytest.raises(NotEnoughDisk, match=rf"Cannot write .*m\.gguf: {os.strerror(code)}") as caught:
        fail_in(tmp_path / "m.gguf", OSError(code, os.strerror(code)))
    assert "Free some room" in str(caught.value.hint)
    assert os.listdir(tmp_path) == []


def test_a_file_that_may_not_be_written_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="Permission denied"):
        fail_in(tmp_path / "m.gguf", PermissionError(errno.EACCES, "Permission denied"))


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".m.gguf.999999.partial").write_bytes(b"half")
    (tmp_path / ".other.gguf.999999.partial").write_bytes(b"half")
    with new_file(tmp_path / "m.gguf") as file:
        file.write(b"new")
    assert sorted(os.listdir(tmp_path)) == [".other.gguf.999999.partial", "m.gguf"]


def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with new_file(tmp_path / "m.gguf") as first:
        (partial,) = tmp_path.iterdir()
        partial.rename(tmp_path / ".m.gguf.1.partial")
        with new_file(tmp_path / "m.gguf") as second:
            second.write(b"new")
        first.write(b"old")
        (tmp_path / ".m.gguf.1.partial").rename(partial)
    assert (tmp_path / "m.gguf").read_bytes() == b"old"
