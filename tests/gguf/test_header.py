"""Every kind of bad file gives its own one-line error, and at once."""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from pathlib import Path

import pytest

from localllm.errors import InvalidModelFile, ModelNotFound
from localllm.gguf import read_header
from tests.gguf.raw import ARCH, ARRAY, F32, TEXT, U8, U32, array, gguf_bytes, pair, tensor, text, write
from tests.tiny_model import vocabulary, write_tiny_model

HUGE = 1 << 60
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"


def with_pair(*pairs: bytes) -> bytes:
    return gguf_bytes([ARCH, *pairs])


def with_tensors(*tensors: bytes, n_data: int = 4096) -> bytes:
    return gguf_bytes(tensors=list(tensors), n_data=n_data)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "part of the magic": (b"GG", "is truncated: 2 bytes"),
    "other magic": (b"ABCDEFGH", "starts with b'ABCD' where b'GGUF' belongs"),
    "zeros": (bytes(4096), "is not a GGUF file"),
    "git lfs": (LFS_POINTER, "Git LFS pointer"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "zip": (b"PK\x03\x04" + bytes(99), "zip archive"),
    "safetensors": (struct.pack("<Q", 90) + b'{"a":', "safetensors"),
    "ggjt": (b"tjgg" + bytes(99), "GGJT"),
    "big-endian": (gguf_bytes(version=struct.pack(">I", 3)), "is big-endian"),
    "version 0": (gguf_bytes(version=struct.pack("<I", 0)), "is GGUF version 0; 2 and 3"),
    "version 1": (gguf_bytes(version=struct.pack("<I", 1)), "is GGUF version 1, which"),
    "version 4": (gguf_bytes(version=struct.pack("<I", 4)), "is GGUF version 4; 2 and 3"),
    "2^60 tensors": (gguf_bytes(n_tensors=HUGE), "claims 1,152,921,504,606,846,976 tensors; at most 65,536"),
    "2^60 pairs": (gguf_bytes(n_pairs=HUGE), "claims 1,152,921,504,606,846,976 metadata pairs"),
    "more tensors than bytes": (gguf_bytes(n_tensors=60_000), "claims 60,000 tensors, and only"),
    "more pairs than bytes": (gguf_bytes(n_pairs=60_000), "claims 60,000 metadata pairs, and only"),
    "empty key": (with_pair(pair("", U32, 1)), "metadata key 1 is empty"),
    "long key": (with_pair(pair("k" * 70_000, U32, 1)), "takes 70,000 bytes; at most 65,535"),
    "endless key": (with_pair(struct.pack("<Q", HUGE)), "metadata key 1 ends at byte"),
    "key not UTF-8": (with_pair(pair(b"a\xff", U32, 1)), "metadata key 1 is not UTF-8, at its byte 1"),
    "key with a zero": (with_pair(pair(b"a\0b", U32, 1)), "it holds a zero byte"),
    "key twice": (with_pair(pair("a", U32, 1), pair("a", U32, 2)), "'a' appears twice"),
    "value type": (with_pair(pair("a", 13, b"")), "the value of 'a' has the unknown type 13"),
    "element type": (with_pair(pair("a", ARRAY, array(77, 1, b""))), "elements of the unknown type 77"),
    "nested array": (with_pair(pair("a", ARRAY, array(ARRAY, 1, b""))), "an array of arrays"),
    "endless array": (with_pair(pair("a", ARRAY, array(U32, HUGE, b""))), "claims 1,152,921,504,606"),
    "endless bytes": (with_pair(pair("a", ARRAY, array(U8, (1 << 64) - 1, b""))), "claims 18,446,744,073"),
    "endless strings": (with_pair(pair("a", ARRAY, array(TEXT, HUGE, b""))), "elements, and only"),
    "string in array": (with_pair(pair("a", ARRAY, array(TEXT, 2, b"\xff" * 8))), "the value of 'a' ends at"),
    "endless string": (with_pair(pair("a", TEXT, struct.pack("<Q", HUGE))), "the value of 'a' ends at byte"),
    "escape in key": (with_pair(pair("\x1b[2J\n" * 99, 13, b"")), r"\\x1b\[2J\\n"),
    "alignment type": (with_pair(pair("general.alignment", TEXT, "32")), "type str where u32 is demanded"),
    "alignment 0": (with_pair(pair("general.alignment", U32, 0)), "general.alignment is 0; a power of two"),
    "alignment 48": (with_pair(pair("general.alignment", U32, 48)), "general.alignment is 48"),
    "alignment 2^31": (with_pair(pair("general.alignment", U32, 1 << 31)), "is 2,147,483,648"),
    "no architecture": (gguf_bytes([pair("a", U32, 1)]), "has no general.architecture"),
    "architecture number": (gguf_bytes([pair("general.architecture", U32, 1)]), "is u32, where a name"),
    "architecture empty": (gguf_bytes([pair("general.architecture", TEXT, "")]), "is empty, where a name"),
    "tensor name empty": (with_tensors(tensor("")), "the name of tensor 0 is empty"),
    "tensor name long": (with_tensors(tensor("n" * 64)), "takes 64 bytes; at most 63"),
    "tensor name not UTF-8": (with_tensors(tensor(b"\xff")), "the name of tensor 0 is not UTF-8"),
    "tensor twice": (with_tensors(tensor("a"), tensor("a", offset=256)), "tensor 'a' appears twice"),
    "no dimensions": (with_tensors(tensor("a", ())), "has 0 dimensions; 1 to 4"),
    "five dimensions": (with_tensors(tensor("a", (1, 1, 1, 1, 1))), "has 5 dimensions"),
    "2^32-1 dimensions": (with_tensors(tensor("a", n_dims=(1 << 32) - 1)), "has 4,294,967,295 dimensions"),
    "dimension 0": (with_tensors(tensor("a", (32, 0))), "has a dimension of 0"),
    "overflow": (with_tensors(tensor("a", (1 << 40, 1 << 40))), "more than 64 bits can count"),
    "removed type": (with_tensors(tensor("a", kind=4)), "has the unknown type 4"),
    "unknown type": (with_tensors(tensor("a", kind=1 << 31)), "has the unknown type 2147483648"),
    "part of a block": (with_tensors(tensor("a", (40, 2), 2)), "rows of 40 weights; q4_0 demands"),
    "offset not aligned": (with_tensors(tensor("a", offset=8)), "starts at 8, where 0 is due"),
    "gap": (with_tensors(tensor("a"), tensor("b", offset=512)), "'b' starts at 512, where 256 is due"),
    "overlap": (with_tensors(tensor("a"), tensor("b", offset=0)), "'b' starts at 0, where 256 is due"),
    "data beyond the end": (with_tensors(tensor("a"), n_data=100), "is truncated: tensor 'a' ends at byte"),
    "huge data": (with_tensors(tensor("a", (1 << 50,))), "is truncated: tensor 'a' ends at byte 4,503"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_file_gives_one_line_that_says_what(tmp_path: Path, case: str) -> None:
    data, message = BAD[case]
    path = write(tmp_path / "bad.gguf", data)
    start = time.perf_counter()
    with pytest.raises(InvalidModelFile, match=message) as caught:
        read_header(path)
    assert time.perf_counter() - start < 0.2
    assert caught.value.message.startswith("bad.gguf: ")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    assert caught.value.hint


@pytest.mark.parametrize("name", ["missing.gguf", "a\0b.gguf", "file.txt/model.gguf", "dangling.gguf"])
def test_missing_path_is_not_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "file.txt", b"text")
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelNotFound, match="No such file"):
        read_header(tmp_path / name)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelFile, match="is a folder"):
        read_header(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in the file system")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(InvalidModelFile, match="not a regular file"):
        read_header(tmp_path / "pipe.gguf")


def test_forbidden_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "secret.gguf", gguf_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read everything

        def forbidden(*_args: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("localllm.gguf.source.open", forbidden, raising=False)
    with pytest.raises(InvalidModelFile, match="permission denied"):
        read_header(path)


def test_every_truncation_of_the_header_is_refused(tmp_path: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.gguf", n_layer=1)
    data = tiny.read_bytes()
    n_header = read_header(tiny).data_offset
    cut = tmp_path / "cut.gguf"
    for length in range(n_header):
        cut.write_bytes(data[:length])
        with pytest.raises(InvalidModelFile, match=r"truncated|is empty|claims"):
            read_header(cut)


def test_truncated_data_is_refused(tmp_path: Path) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.gguf")
    data = tiny.read_bytes()
    start = read_header(tiny).data_offset
    for length in [start, start + 1, *range(start, len(data), (len(data) - start) // 20), len(data) - 1]:
        with pytest.raises(InvalidModelFile, match=r"truncated: tensor"):
            read_header(write(tmp_path / "cut.gguf", data[:length]))


def test_padding_after_the_last_tensor_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "short.gguf", with_tensors(tensor("a", (3,)), n_data=12))
    assert read_header(path).tensors[0].n_bytes == 12


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_are_read(tmp_path: Path, version: int) -> None:
    path = write(tmp_path / "v.gguf", gguf_bytes(version=struct.pack("<I", version)))
    assert read_header(path).version == version


def test_values_and_tensors_are_as_written(tmp_path: Path) -> None:
    pairs = [
        ARCH,
        pair("a", F32, 0.5),
        pair("b", ARRAY, array(U8, 3, bytes([1, 2, 3]))),
        pair("c", ARRAY, array(TEXT, 2, text("x") + text(b"\xff"))),
        pair("general.alignment", U32, 64),
    ]
    tensors = [tensor("q", (32, 2), 2), tensor("w", (5, 3, 2), 1, 64)]
    header = read_header(write(tmp_path / "v.gguf", gguf_bytes(pairs, tensors, alignment=64)))
    assert (header.architecture, header.metadata["a"], header.alignment) == ("llama", 0.5, 64)
    numbers, texts = header.metadata["b"], header.metadata["c"]
    assert numbers.read() == [1, 2, 3]
    assert numbers.read(2) == [1, 2]
    assert texts.read() == ["x", "�"]
    assert texts.read_texts() == [b"x", b"\xff"]
    assert dict(header.metadata_types)["c"] == "arr[str]"
    q, w = header.tensors
    assert (q.n_bytes, q.n_params, w.shape, w.n_bytes) == (36, 64, (5, 3, 2), 60)
    assert w.offset == header.data_offset + 64
    assert header.tensor("w") is w
    assert header.tensor("nothing") is None


def test_array_of_a_changed_file_is_an_error(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    tokens = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert tokens.read() == vocabulary()
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(InvalidModelFile, match="has changed"):
        tokens.read()
    path.write_bytes(b"short")
    with pytest.raises(InvalidModelFile, match="has become shorter"):
        tokens.read()
    path.unlink()
    with pytest.raises(ModelNotFound):
        tokens.read()


def test_hostile_counts_cost_less_than_a_second(tmp_path: Path) -> None:
    strings = pair("a", ARRAY, array(TEXT, 4_100_000, bytes(8 * 4_100_000)))
    path = write(tmp_path / "strings.gguf", with_pair(strings))
    start = time.perf_counter()
    with pytest.raises(InvalidModelFile, match=re.escape("more than 4,000,000 strings")):
        read_header(path)
    assert time.perf_counter() - start < 1
