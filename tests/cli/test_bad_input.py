"""What cannot be converted, calibrated or quantized: one line that says why, one that says what to do, and no file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localllm.gguf import read_header
from localllm.quantize import Imatrix, ImatrixEntry, read_imatrix, write_imatrix
from tests.cli.conftest import Cli, Result
from tests.convert.checkpoints import llama_weights, write_llama, write_sharded_llama
from tests.tiny_model import write_tiny_model

UP = "model.layers.1.mlp.up_proj.weight"
TEXT = "The world in the hollow well. " * 60
Prepare = Callable[[Path], object]


def rewritten(folder: Path, name: str, weight: np.ndarray) -> None:
    write_llama(folder / "llama", weights={**llama_weights(), name: weight})


def with_value(value: float) -> np.ndarray:
    weight = llama_weights()[UP].copy()
    weight[3, 5] = value
    return weight


def truncated(folder: Path) -> None:
    path = write_llama(folder / "llama") / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)


def lacking_a_shard(folder: Path) -> None:
    (write_sharded_llama(folder / "llama") / "model-00002-of-00003.safetensors").unlink()


def tiny(folder: Path, **changes: object) -> Path:
    (folder / "text.txt").write_text(TEXT)
    return write_tiny_model(folder / "tiny.gguf", n_ctx=4096, **changes)  # type: ignore[arg-type]


def spoilt(name: str, value: float) -> Prepare:
    """Return what writes a tiny model with a bad weight in one tensor."""

    def prepare(folder: Path) -> None:
        path = tiny(folder)
        tensor = read_header(path).tensor(name)
        assert tensor is not None
        with path.open("rb+") as file:
            file.seek(tensor.offset + 40)
            file.write(np.float32(value).tobytes())

    return prepare


def cut(folder: Path) -> None:
    path = tiny(folder)
    os.truncate(path, path.stat().st_size - 1)


def short_text(folder: Path) -> None:
    tiny(folder)
    (folder / "text.txt").write_text("Too short.")


def importance_of(change: Callable[[Imatrix], Imatrix]) -> Prepare:
    def prepare(folder: Path) -> None:
        header = read_header(tiny(folder))
        entries = {
            tensor.name: ImatrixEntry(np.ones((1, tensor.shape[0]), np.float32), np.ones(1, np.int64))
            for tensor in header.tensors
            if tensor.name.startswith("blk") and len(tensor.shape) == 2
        }
        write_imatrix(folder / "i.gguf", change(Imatrix(entries)))

    return prepare


def of_other_shapes(imatrix: Imatrix) -> Imatrix:
    return Imatrix(
        {name: ImatrixEntry(entry.sums[:, ::2].copy(), entry.counts) for name, entry in imatrix.entries.items()}
    )


def of_other_names(imatrix: Imatrix) -> Imatrix:
    return Imatrix({name.replace("blk.1", "blk.9"): entry for name, entry in imatrix.entries.items()})


def without_counts(imatrix: Imatrix) -> Imatrix:
    return Imatrix({name: ImatrixEntry(entry.sums, 0 * entry.counts) for name, entry in imatrix.entries.items()})


CONVERT = ("convert", "llama", "out.gguf")
READ = ("--calibration", "text.txt", "--threads", "1")
IMATRIX = ("imatrix", "tiny.gguf", "out.gguf", "--n-ctx", "64", *READ)
RTN = ("quantize", "tiny.gguf", "out.gguf", "--type", "Q4_0", "--method", "rtn", "--threads", "1")
GPTQ = ("quantize", "tiny.gguf", "out.gguf", "--type", "Q4_0", *READ)
WEIGHTED = (*RTN, "--imatrix", "i.gguf")

BAD: list[tuple[str, tuple[str, ...], Prepare, str]] = [
    ("missing shard", CONVERT, lacking_a_shard, "1 of 3 files of weights are missing"),
    ("truncated safetensors", CONVERT, truncated, "model.safetensors: its tensors take"),
    ("wrong dtype", CONVERT, lambda f: rewritten(f, UP, np.zeros((96, 64), np.int64)), "is I64"),
    ("NaN, converted", CONVERT, lambda f: rewritten(f, UP, with_value(np.nan)), "blk.1.ffn_up.weight has a weight"),
    ("infinite, converted", CONVERT, lambda f: rewritten(f, UP, with_value(-np.inf)), "infinite or no number"),
    ("NaN, calibrated", IMATRIX, spoilt("blk.0.ffn_up.weight", np.nan), "not finite numbers"),
    ("NaN, rounded", RTN, spoilt("blk.1.ffn_down.weight", np.nan), "blk.1.ffn_down.weight: Weights are NaN"),
    ("infinite, rounded", RTN, spoilt("blk.1.ffn_down.weight", np.inf), "blk.1.ffn_down.weight: Weights are NaN"),
    ("infinite norm, rounded", RTN, spoilt("blk.1.ffn_norm.weight", np.inf), "blk.1.ffn_norm.weight: Weights are NaN"),
    ("NaN before others, compensated", GPTQ, spoilt("blk.0.ffn_up.weight", np.nan), "not finite numbers"),
    ("NaN at the end, compensated", GPTQ, spoilt("blk.1.ffn_down.weight", np.nan), "blk.1.ffn_down.weight: "),
    ("truncated model", RTN, cut, "tiny.gguf: is truncated"),
    ("other shapes", WEIGHTED, importance_of(of_other_shapes), "which takes"),
    ("other names", WEIGHTED, importance_of(of_other_names), "has an entry for blk.9"),
    ("other shapes, compensated", (*GPTQ, "--imatrix", "i.gguf"), importance_of(of_other_shapes), "which takes"),
    ("short text, calibrated", IMATRIX, short_text, "a chunk takes 64"),
    ("short text, compensated", GPTQ, short_text, "a chunk takes 512"),
]  # fmt: skip


def assert_clear(result: Result, words: str) -> None:
    lines = result.err.strip().splitlines()
    assert result.code not in (0, 70) and result.out == "", result.err
    assert [line.partition(":")[0] for line in lines][-2:] == ["error", "hint"], result.err
    assert words in lines[-2] and "Traceback" not in result.err


@pytest.mark.parametrize(("arguments", "prepare", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_with_a_hint_and_leaves_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], prepare: Prepare, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    assert_clear(cli(*arguments), words)
    assert set(os.listdir()) <= {"llama", "tiny.gguf", "text.txt", "i.gguf", ".out.gguf.calibration"}


def test_zero_counts_weigh_all_columns_alike(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    importance_of(lambda imatrix: imatrix)(tmp_path)
    assert cli(*WEIGHTED).code == 0
    Path("out.gguf").rename("uniform.gguf")
    importance_of(without_counts)(tmp_path)
    assert not any(entry.counts.any() for entry in read_imatrix(Path("i.gguf")).entries.values())
    assert cli(*WEIGHTED).code == 0
    assert Path("out.gguf").read_bytes() == Path("uniform.gguf").read_bytes()
