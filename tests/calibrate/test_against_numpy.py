"""What is measured is what a Llama in NumPy computes from the same weights and tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import Chunks, MomentFolder
from localllm.llama import Model
from localllm.quantize.imatrix import read_imatrix
from localllm.quantize.sinks import N_SINK
from tests.calibrate.conftest import Calibrate
from tests.calibrate.numpy_llama import NumpyLlama, Reads

TOLERANCE = 4e-3
"""Of the largest entry: keys and values are rounded to f16, which has 11 bits."""


def all_reads(model: Model, chunks: Chunks) -> Reads:
    oracle = NumpyLlama(model.path)
    found = [oracle.reads(chunk.tolist()) for chunk in chunks.tokens]
    return {key: np.concatenate([reads[key] for reads in found]) for key in found[0]}


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(np.abs(expected).max(), 1e-9))


def test_sums_of_squares_of_every_matrix(tiny: Model, chunks: Chunks, run: Calibrate, tmp_path: Path) -> None:
    expected = all_reads(tiny, chunks)
    run(tiny)
    found = read_imatrix(tmp_path / "out.gguf")
    assert set(found.entries) == {name for name, _ in expected if name != "output.weight"}
    for name, entry in found.entries.items():
        assert_close(entry.sums[0], (expected[name, 0] ** 2).sum(axis=0))
        assert entry.counts.tolist() == [chunks.n_tokens]
    assert (found.n_chunks, found.chunk_size, found.datasets) == (5, 64, ("text",))


def test_first_input_needs_no_oracle_but_the_embeddings(tiny: Model, chunks: Chunks, run: Calibrate) -> None:
    import gguf

    table = next(t for t in gguf.GGUFReader(tiny.path).tensors if t.name == "token_embd.weight").data
    rows = table[chunks.tokens.reshape(-1)].astype(np.float64)
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)
    found = run(tiny).entries["blk.0.attn_q.weight"]
    np.testing.assert_allclose(found.sums[0], (rows**2).sum(axis=0), rtol=1e-5)


def test_second_moments_of_every_matrix(tiny: Model, chunks: Chunks, run: Calibrate, tmp_path: Path) -> None:
    run(tiny, moments=tmp_path / "h", with_output=True)
    folder = MomentFolder.open(tmp_path / "h")
    for (name, mat), rows in all_reads(tiny, chunks).items():
        moment = folder.moment(name, mat)
        assert_close(moment.h, rows.T @ rows)
        assert moment.n_rows == chunks.n_tokens


@pytest.mark.parametrize("name", ["tiny", "moe"])
def test_first_tokens_of_every_chunk_are_told_apart_for_keys_and_values(
    request: pytest.FixtureRequest, chunks: Chunks, run: Calibrate, tmp_path: Path, name: str
) -> None:
    model: Model = request.getfixturevalue(name)
    run(model, moments=tmp_path / "h")
    folder, oracle = MomentFolder.open(tmp_path / "h"), NumpyLlama(model.path)
    read = [oracle.reads(chunk.tolist()) for chunk in chunks.tokens]
    n_found = 0
    for weight, mat in read[0]:
        found = folder.sink_moments(weight)
        assert (found is not None) == weight.endswith(("attn_k.weight", "attn_v.weight", "attn_q.weight"))
        if found is not None:
            n_found += 1
            rows = np.concatenate([reads[weight, mat][:N_SINK] for reads in read])
            assert_close(found.total, rows.T @ rows)
            assert found.n_tokens == N_SINK * chunks.n_chunks
    assert n_found == 2 * 3, "two layers"


def test_experts_are_kept_apart(moe: Model, chunks: Chunks, run: Calibrate, tmp_path: Path) -> None:
    expected = all_reads(moe, chunks)
    found = run(moe, moments=tmp_path / "h")
    folder = MomentFolder.open(tmp_path / "h")
    for (name, mat), rows in expected.items():
        if name == "output.weight":
            continue
        entry = found.entries[name]
        assert entry.counts[mat] == len(rows)
        assert_close(entry.sums[mat], (rows**2).sum(axis=0))
        assert_close(folder.moment(name, mat).h, rows.T @ rows)
    down = found.entries["blk.0.ffn_down_exps.weight"]
    assert down.counts.sum() == 2 * chunks.n_tokens and len(set(down.counts.tolist())) > 1


def test_weights_that_read_the_same_share_one_file(tiny: Model, moe: Model, run: Calibrate, tmp_path: Path) -> None:
    run(tiny, moments=tmp_path / "h")
    names = {path.stem for path in (tmp_path / "h").glob("blk.0.*.npy")}
    gate = "blk.0.ffn_gate" if "blk.0.ffn_gate" in names else "blk.0.ffn_up"
    assert names == {"blk.0.attn_q", "blk.0.attn_q.first4", "blk.0.attn_output", gate, "blk.0.ffn_down"}
    folder = MomentFolder.open(tmp_path / "h")
    assert set(folder.moment("blk.0.attn_v.weight").weights) == {f"blk.0.attn_{part}.weight" for part in "qkv"}
    run(moe, out="moe.gguf", moments=tmp_path / "moe")
    experts = {path.stem for path in (tmp_path / "moe").glob("blk.1.ffn_*_exps.*.npy")}
    assert len(experts) == 2 * 4, "gate and up share theirs, down has its own, each for four experts"


def test_output_layer_is_measured_only_if_asked_for(tiny: Model, run: Calibrate) -> None:
    assert "output.weight" not in run(tiny).entries
    assert "output.weight" in run(tiny, with_output=True).entries


@pytest.mark.parametrize("stops_early", [True, False])
def test_stopping_early_changes_nothing(tiny: Model, run: Calibrate, tmp_path: Path, stops_early: bool) -> None:
    run(tiny, out="whole.gguf", stops_early=False)
    run(tiny, out="other.gguf", stops_early=stops_early)
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "other.gguf").read_bytes()
