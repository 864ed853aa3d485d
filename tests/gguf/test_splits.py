"""Models in several files are one model, and a missing or wrong part is named."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from localllm.errors import InvalidModelFile
from localllm.gguf import read_header
from tests.gguf.raw import ARCH, I32, U16, U32, gguf_bytes, pair, tensor, write


def part(folder: Path, index: int, count: int, *, name: str | None = None, tensors: int = 2, **wrong: int) -> Path:
    number = wrong.get("number", index)
    pairs = [
        pair("split.no", wrong.get("kind", U16), number),
        pair("split.count", U16, wrong.get("said", count)),
        pair("split.tensors.count", I32, tensors),
    ]
    table = [] if index == 0 else [tensor(name or f"t{index}")]
    data = gguf_bytes([ARCH, *pairs] if index == 0 else pairs, table)
    return write(folder / f"m-{index + 1:05d}-of-{count:05d}.gguf", data)


def test_parts_are_joined(tmp_path: Path) -> None:
    paths = [part(tmp_path, index, 3) for index in range(3)]
    header = read_header(paths[0])
    assert header.parts == tuple(paths)
    assert header.n_bytes == sum(path.stat().st_size for path in paths)
    assert [(t.name, t.part) for t in header.tensors] == [("t1", 1), ("t2", 2)]


def test_missing_parts_are_named(tmp_path: Path) -> None:
    first = part(tmp_path, 0, 3)
    with pytest.raises(InvalidModelFile, match=r"2 of its 3 parts are missing, first m-00002-of-00003\.gguf"):
        read_header(first)


def test_later_part_points_to_the_first(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelFile, match="is part 2 of 3") as caught:
        read_header(part(tmp_path, 1, 3))
    assert "m-00001-of-00003.gguf" in str(caught.value.hint)


def test_renamed_first_part_is_refused(tmp_path: Path) -> None:
    first = part(tmp_path, 0, 3).rename(tmp_path / "model.gguf")
    with pytest.raises(InvalidModelFile, match=r"its name does not end in -00001-of-00003\.gguf"):
        read_header(first)


def test_damaged_later_part_is_named(tmp_path: Path) -> None:
    first, second = part(tmp_path, 0, 2, tensors=1), part(tmp_path, 1, 2)
    second.write_bytes(second.read_bytes()[:150])
    with pytest.raises(InvalidModelFile, match=r"m-00002-of-00002\.gguf: is truncated"):
        read_header(first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "t1"}, "tensor 't1' is in an earlier part too"),
        ({"number": 1}, "says that it is part 2 of 3; it is named part 3 of 3"),
        ({"said": 2}, "says that it is part 3 of 2"),
        ({"kind": U32}, "split.no is of type u32 where u16 is demanded"),
    ],
)
def test_wrong_later_part_is_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    first = [part(tmp_path, 0, 3), part(tmp_path, 1, 3), part(tmp_path, 2, 3, **wrong)][0]
    with pytest.raises(InvalidModelFile, match=message):
        read_header(first)


def test_tensor_count_must_match(tmp_path: Path) -> None:
    first = [part(tmp_path, 0, 2, tensors=7), part(tmp_path, 1, 2)][0]
    with pytest.raises(InvalidModelFile, match=r"announces 7 tensors in split\.tensors\.count; its parts hold 1"):
        read_header(first)


def test_split_count_must_be_u16(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", gguf_bytes([ARCH, pair("split.count", U32, struct.pack("<I", 3))]))
    with pytest.raises(InvalidModelFile, match=r"split\.count is of type u32"):
        read_header(path)
