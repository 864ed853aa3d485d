"""Importance matrices: both of llama.cpp's forms are read, the newer one is written, and nonsense is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.errors import InvalidModelFile, NotEnoughDisk, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, TensorInfo
from localllm.quantize import Imatrix, ImatrixEntry, read_imatrix, write_imatrix

Q = "blk.0.attn_q.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"


def entry(n_mat: int = 1, n_cols: int = 8, seed: int = 0) -> ImatrixEntry:
    rng = np.random.default_rng(seed)
    sums = (rng.standard_normal((n_mat, n_cols)) ** 2).astype(np.float32)
    return ImatrixEntry(sums, rng.integers(1, 1000, n_mat))


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, GGML_TYPES_BY_NAME["f32"], 0, 0)


def gguf_file(path: Path, tensors: dict[str, np.ndarray], kind: str = "imatrix") -> Path:
    """An importance matrix as llama.cpp writes it, by gguf's own writer."""
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type(kind)
    writer.add_array("imatrix.datasets", ["a.txt", "b.txt"])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dat_bytes(entries: list[tuple[bytes, int, list[float]]], tail: bytes = b"") -> bytes:
    data = struct.pack("<i", len(entries))
    for name, n_chunks, sums in entries:
        data += struct.pack(f"<i{len(name)}sii{len(sums)}f", len(name), name, n_chunks, len(sums), *sums)
    return data + tail


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=4),
    datasets=st.lists(st.text(max_size=9), max_size=3),
    n_chunks=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, int]],
    datasets: list[str],
    n_chunks: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("imatrix") / "i.gguf"
    entries = {f"blk.{i}.w.weight": entry(*shape, seed + i) for i, shape in enumerate(shapes)}
    write_imatrix(path, Imatrix(entries, tuple(datasets), n_chunks, 512))
    read = read_imatrix(path)
    assert (read.datasets, read.n_chunks, read.chunk_size) == (tuple(datasets), n_chunks, 512)
    assert read.entries.keys() == entries.keys()
    for name, expected in entries.items():
        np.testing.assert_array_equal(read.entries[name].sums, expected.sums)
        np.testing.assert_array_equal(read.entries[name].counts, expected.counts)


def test_written_file_is_laid_out_as_llama_cpp_does(tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    made = {EXPERTS: entry(3, 8), Q: entry()}
    write_imatrix(path, Imatrix(made, ("prose.txt",), 5, 256))
    reader = gguf.GGUFReader(path)
    assert [(t.name, [int(n) for n in t.shape]) for t in reader.tensors] == [
        (f"{Q}.in_sum2", [8, 1]),
        (f"{Q}.counts", [1, 1]),
        (f"{EXPERTS}.in_sum2", [8, 3]),
        (f"{EXPERTS}.counts", [1, 3]),
    ]
    assert all(t.tensor_type == gguf.GGMLQuantizationType.F32 for t in reader.tensors)
    np.testing.assert_array_equal(reader.tensors[2].data, made[EXPERTS].sums)
    keys = ("general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
    assert [reader.fields[key].contents() for key in keys] == ["imatrix", ["prose.txt"], 5, 256]


def test_a_file_of_gguf_is_read(tmp_path: Path) -> None:
    sums = f32(1, 2, 3, 4)
    path = gguf_file(tmp_path / "i.gguf", {f"{Q}.in_sum2": sums, f"{Q}.counts": f32(2), "x.in_sum": f32(9)})
    imatrix = read_imatrix(path)
    assert (imatrix.datasets, imatrix.n_chunks, imatrix.chunk_size) == (("a.txt", "b.txt"), 7, 512)
    assert set(imatrix.entries) == {Q}
    np.testing.assert_array_equal(imatrix.importance(tensor(Q, 4, 9)), [sums / 2])
    assert imatrix.importance(tensor("blk.1.attn_q.weight", 4, 9)) is None


def test_experts_have_importance_of_their_own_and_unused_ones_are_uniform(tmp_path: Path) -> None:
    sums = np.array([[2, 4], [0, 0], [9, 3]], dtype=np.float32)
    counts = np.array([[2], [0], [3]], dtype=np.float32)
    path = gguf_file(tmp_path / "i.gguf", {f"{EXPERTS}.in_sum2": sums, f"{EXPERTS}.counts": counts})
    importance = read_imatrix(path).importance(tensor(EXPERTS, 2, 5, 3))
    np.testing.assert_array_equal(importance, [[1, 2], [1, 1], [3, 1]])


def test_one_count_may_stand_for_several_matrices(tmp_path: Path) -> None:
    values = {"blk.0.attn_k_b.weight.in_sum2": f32(2, 4, 6, 8), "blk.0.attn_k_b.weight.counts": f32(2)}
    importance = read_imatrix(gguf_file(tmp_path / "i.gguf", values)).importance(
        tensor("blk.0.attn_k_b.weight", 2, 3, 2)
    )
    np.testing.assert_array_equal(importance, [[1, 2], [3, 4]])


def test_old_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    tail = struct.pack("<ii8s", 11, 8, b"text.txt")
    path.write_bytes(dat_bytes([(Q.encode(), 4, [8, 2]), (EXPERTS.encode(), 0, [1, 2, 3, 4])], tail))
    imatrix = read_imatrix(path)
    assert (imatrix.datasets, imatrix.n_chunks) == (("text.txt",), 11)
    np.testing.assert_array_equal(imatrix.importance(tensor(Q, 2, 5)), [[2, 0.5]])
    np.testing.assert_array_equal(imatrix.importance(tensor(EXPERTS, 2, 5, 2)), [[1, 2], [3, 4]])


def test_old_form_may_lack_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(dat_bytes([(Q.encode(), 4, [8, 2])]))
    assert read_imatrix(path).n_chunks == 0
    path.write_bytes(dat_bytes([(Q.encode(), 4, [8, 2])], struct.pack("<i", 3)))
    assert (read_imatrix(path).n_chunks, read_imatrix(path).datasets) == (3, ())


def test_every_cut_of_an_old_file_is_refused_or_whole(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    whole = dat_bytes([(Q.encode(), 4, [8, 2])])
    tailed = whole + struct.pack("<ii4s", 11, 4, b"text")
    for n_bytes in range(len(tailed)):
        path.write_bytes(tailed[:n_bytes])
        if n_bytes in (len(whole), len(whole) + 4):
            assert set(read_imatrix(path).entries) == {Q}
        else:
            with pytest.raises(InvalidModelFile, match="is no importance matrix"):
                read_imatrix(path)


@pytest.mark.parametrize("make", [lambda p: p.write_text("hello, world"), lambda p: p.write_bytes(b"\xff" * 100)])
def test_other_files_are_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "other"
    make(path)
    with pytest.raises(InvalidModelFile, match="is no importance matrix"):
        read_imatrix(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"Cannot read .*none\.gguf: No such file"):
        read_imatrix(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({f"{Q}.in_sum2": f32(1, 2)}, "only one of the sums and the counts"),
        ({f"{Q}.counts": f32(1)}, "only one of the sums and the counts"),
        ({f"{Q}.in_sum2": f32(1, np.nan), f"{Q}.counts": f32(1)}, "a sum of .* is NaN"),
        ({f"{Q}.in_sum2": f32(1, -1), f"{Q}.counts": f32(1)}, "a sum of .* negative"),
        ({f"{Q}.in_sum2": f32(1, 2), f"{Q}.counts": f32(np.inf)}, "a count of .* is NaN, infinite"),
        ({f"{Q}.in_sum2": f32(1, 2, 3), f"{Q}.counts": f32(1, 2)}, "3 sums for 2 counts"),
        ({f"{Q}.in_sum2": f32(1, 2).astype(np.float16), f"{Q}.counts": f32(1)}, "are not of type f32"),
        ({"token_embd.weight": f32(1, 2)}, "without entries"),
    ],
)
def test_damaged_entries_are_named(tmp_path: Path, values: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidModelFile, match=message):
        read_imatrix(gguf_file(tmp_path / "i.gguf", values))


def test_a_model_is_no_importance_matrix(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "m.gguf", {f"{Q}.in_sum2": f32(1), f"{Q}.counts": f32(1)}, kind="model")
    with pytest.raises(InvalidModelFile, match="is no importance matrix"):
        read_imatrix(path)


def test_entries_of_another_width_are_of_another_model() -> None:
    with pytest.raises(RequestError, match=r"has 8 values for blk\.0\.attn_q\.weight, which takes 16") as caught:
        Imatrix({Q: entry()}).importance(tensor(Q, 16, 4))
    assert "another model" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("sums", "counts"),
    [([[1.0, 2.0]], [1, 2]), ([1.0, 2.0], [1]), ([[]], [1]), ([[np.nan]], [1]), ([[1.0]], [-1])],
)
def test_impossible_entries_cannot_be_made(sums: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match="sums"):
        ImatrixEntry(np.array(sums, dtype=np.float32), np.array(counts, dtype=np.int64))


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="is a folder, or in none"):
        write_imatrix(tmp_path / "none" / "i.gguf", Imatrix({Q: entry()}))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(NotEnoughDisk, match="the disk has 10 free"):
        write_imatrix(tmp_path / "i.gguf", Imatrix({Q: entry()}))
    assert list(tmp_path.iterdir()) == []
