"""The file that is written: whole or not there, the same however it was computed, and nothing of the source lost."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import InvalidModelFile, ModelError, NotEnoughDisk
from localllm.gguf import GGMLType, TensorInfo, read_header
from localllm.llama import Model
from localllm.quantize import Encoder, Progress, Rtn, Workers, file_type, imatrix_pairs, plan_mix, quantize
from tests.quantize.peer import Wanted, as_imatrix
from tests.quantize.skeleton import Skeleton
from tests.tiny_model import write_tiny_model

KEYS = ("general.quantization_version", "general.file_type")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that runs, whose rows are whole super-blocks."""
    return write_tiny_model(tmp_path_factory.mktemp("wide") / "wide.gguf", n_layer=3, n_embd=256, n_head=4, n_ff=512)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_slabs_and_threads_change_nothing(tmp_path: Path, dtype: str) -> None:
    skeleton = Skeleton(n_layer=4, n_expert=4, dtype=dtype)
    source = skeleton.write(tmp_path / "source.gguf")
    wanted = Wanted("Q3_K_M", skeleton.importance())
    expected = wanted.by_llama_cpp(source, tmp_path / "theirs.gguf").read_bytes()
    for n_threads, slab_bytes in ((1, 1), (1, 3 * 1024), (3, 1 << 28), (3, 5000)):
        made = wanted.by_us(source, tmp_path / "ours.gguf", n_threads=n_threads, slab_bytes=slab_bytes)
        assert made.read_bytes() == expected


def test_blocks_of_rows_are_put_together_in_order(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Wanted("Q4_K_M")
    expected = wanted.by_us(wide, tmp_path / "one.gguf").read_bytes()
    monkeypatch.setattr("localllm.quantize.workers.BLOCK_WEIGHTS", 700)
    assert wanted.by_us(wide, tmp_path / "many.gguf", n_threads=3).read_bytes() == expected


def test_the_result_runs(wide: Path, tmp_path: Path) -> None:
    for name in ("Q4_K_M", "IQ4_XS", "Q2_K"):
        with Model(Wanted(name).by_us(wide, tmp_path / f"{name}.gguf")) as model:
            assert model.n_layer == 3


def split(path: Path, folder: Path) -> Path:
    """Write a model again in two files: every other tensor in the second one."""
    reader = gguf.GGUFReader(path)
    for part in (0, 1):
        writer = gguf.GGUFWriter(folder / f"m-0000{part + 1}-of-00002.gguf", "llama")
        writer.add_key_value("split.no", part, gguf.GGUFValueType.UINT16)
        writer.add_key_value("split.count", 2, gguf.GGUFValueType.UINT16)
        writer.add_key_value("split.tensors.count", len(reader.tensors), gguf.GGUFValueType.INT32)
        for field in reader.fields.values() if part == 0 else ():
            if field.name != "general.architecture" and not field.name.startswith("GGUF."):
                writer.add_key_value(field.name, field.contents(), field.types[0])
        for tensor in reader.tensors[part::2]:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return folder / "m-00001-of-00002.gguf"


def test_a_split_model_becomes_one_file(tmp_path: Path) -> None:
    whole = Skeleton(n_layer=3).write(tmp_path / "source.gguf")
    parts = split(whole, tmp_path)
    wanted = Wanted("Q4_K_M")
    ours = wanted.by_us(parts, tmp_path / "ours.gguf")
    assert ours.read_bytes() == wanted.by_llama_cpp(parts, tmp_path / "theirs.gguf").read_bytes()
    assert ours.read_bytes() == wanted.by_us(whole, tmp_path / "whole.gguf").read_bytes()


def test_metadata_is_kept_and_says_what_was_done(wide: Path, tmp_path: Path) -> None:
    made = read_header(Wanted("Q5_K_S").by_us(wide, tmp_path / "q.gguf"))
    before, after = wide.read_bytes(), made.path.read_bytes()
    source = read_header(wide)
    assert [made.metadata[key] for key in KEYS] == [2, file_type("Q5_K_S").number]
    for key in source.metadata.keys() - set(KEYS):
        assert after[slice(*made.metadata_spans[key])] == before[slice(*source.metadata_spans[key])]


def test_text_that_is_no_utf8_is_kept(tmp_path: Path) -> None:
    source = Skeleton().write(tmp_path / "source.gguf")
    source.write_bytes(source.read_bytes().replace(b"skeleton", b"skel\xff\xfeon"))
    assert b"skel\xff\xfeon" in Wanted("Q8_0").by_us(source, tmp_path / "q.gguf").read_bytes()


def test_alignment_is_kept(tmp_path: Path) -> None:
    source = Skeleton().write(tmp_path / "source.gguf", alignment=256)
    made = read_header(Wanted("Q8_0").by_us(source, tmp_path / "q.gguf"))
    assert made.alignment == 256 and all(tensor.offset % 256 == 0 for tensor in made.tensors)


def test_the_importance_matrix_is_named(tmp_path: Path) -> None:
    skeleton = Skeleton()
    header = read_header(skeleton.write(tmp_path / "source.gguf"))
    imatrix = as_imatrix(skeleton.importance())
    mix = plan_mix(header, file_type("Q4_K_M"))
    with Workers(1) as workers:
        more = imatrix_pairs(Path("/home/me/i.gguf"), imatrix)
        quantize(header, tmp_path / "q.gguf", mix, Rtn(workers, imatrix), more_pairs=more)
    metadata = read_header(tmp_path / "q.gguf").metadata
    assert metadata["quantize.imatrix.file"] == "i.gguf"
    assert metadata["quantize.imatrix.entries_count"] == len(imatrix.entries)
    assert "quantize.imatrix.chunks_count" not in metadata and "quantize.imatrix.dataset" not in metadata


def test_progress_reaches_the_end(wide: Path, tmp_path: Path) -> None:
    header = read_header(wide)
    told: list[Progress] = []
    with Workers(1) as workers:
        mix = plan_mix(header, file_type("Q4_K_M"))
        made = quantize(header, tmp_path / "q.gguf", mix, Rtn(workers), on_progress=told.append, slab_bytes=1 << 15)
    assert [p.n_done for p in told] == sorted({p.n_done for p in told})
    assert told[-1].share == 1 and told[-1].left_s == 0 and len(told) > len(header.tensors)
    assert made.n_bytes == (tmp_path / "q.gguf").stat().st_size and made.n_params == told[-1].n_total


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, name: str, bad: float) -> None:
    values = np.ones((2, 256) if "up" in name else 256, dtype=np.float32)
    values.flat[100] = bad
    source = Skeleton().write(tmp_path / "source.gguf", extra={name: values})
    with pytest.raises(ModelError, match=rf"source\.gguf, {name}: Weights are NaN or infinite"):
        Wanted("Q4_K_M").by_us(source, tmp_path / "q.gguf")
    assert os.listdir(tmp_path) == ["source.gguf"]


def test_a_source_that_became_shorter_is_named(tmp_path: Path) -> None:
    source = Skeleton(n_layer=8).write(tmp_path / "source.gguf")
    header = read_header(source)
    os.truncate(source, source.stat().st_size - 5000)
    with Workers(1) as workers, pytest.raises(InvalidModelFile, match="has become shorter"):
        quantize(header, tmp_path / "q.gguf", plan_mix(header, file_type("Q8_0")), Rtn(workers))
    assert os.listdir(tmp_path) == ["source.gguf"]


class Failing:
    """A method that fails at some tensor."""

    name = "failing"
    needs_whole_matrices = False

    def __init__(self, workers: Workers, at: str, error: BaseException) -> None:
        self._rtn = Rtn(workers)
        self._at = at
        self._error = error

    def begin(self, tensor: TensorInfo, kind: GGMLType) -> Encoder:
        if tensor.name == self._at:
            raise self._error
        return self._rtn.begin(tensor, kind)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), NotEnoughDisk)],
)
def test_what_was_there_stays_where_a_run_fails(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    header = read_header(Skeleton(n_layer=4).write(tmp_path / "source.gguf"))
    (tmp_path / "q.gguf").write_bytes(b"old")
    with Workers(2) as workers:
        method = Failing(workers, "blk.2.attn_v.weight", error)
        with pytest.raises(raised):
            quantize(header, tmp_path / "q.gguf", plan_mix(header, file_type("Q4_K_M")), method)
    assert (tmp_path / "q.gguf").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["q.gguf", "source.gguf"]


def test_room_on_the_disk_is_asked_for_first(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = read_header(wide)
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with Workers(1) as workers:
        method = Failing(workers, "token_embd.weight", AssertionError("work was done"))
        with pytest.raises(NotEnoughDisk, match=r"takes [\d,]+ bytes; the disk has 100,000 free"):
            quantize(header, tmp_path / "q.gguf", plan_mix(header, file_type("Q8_0")), method)


def test_quantized_tensors_of_the_same_type_are_copied(wide: Path, tmp_path: Path) -> None:
    once = Wanted("Q6_K").by_us(wide, tmp_path / "once.gguf")
    twice = Wanted("Q6_K").by_us(once, tmp_path / "twice.gguf")
    assert once.read_bytes() == twice.read_bytes()


def test_requantizing_is_llama_cpps_too(wide: Path, tmp_path: Path) -> None:
    for first in ("Q8_0", "Q4_1", "IQ4_NL"):
        source = Wanted(first).by_us(wide, tmp_path / f"{first}.gguf")
        theirs = Wanted("Q4_K_M").by_llama_cpp(source, tmp_path / "theirs.gguf")
        assert Wanted("Q4_K_M").by_us(source, tmp_path / "ours.gguf").read_bytes() == theirs.read_bytes()


def test_version_2_of_the_format_is_read(tmp_path: Path) -> None:
    source = Skeleton().write(tmp_path / "source.gguf")
    expected = Wanted("Q8_0").by_us(source, tmp_path / "three.gguf").read_bytes()
    data = bytearray(source.read_bytes())
    data[4:8] = struct.pack("<I", 2)
    source.write_bytes(data)
    assert Wanted("Q8_0").by_us(source, tmp_path / "two.gguf").read_bytes() == expected
