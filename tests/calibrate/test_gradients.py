"""The folder of gradients: what is written is read, and what is damaged is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate.folder import Key
from localllm.calibrate.gradients import KEY_FILE, GradientFolder
from localllm.errors import RequestError
from localllm.gradients import FisherFactors
from localllm.quantize.gptq import SecondMoments

KEY = Key("a model", "a text", 1024, 512)
NAME = "blk.0.attn_q.weight"


def some(n: int, n_tokens: int) -> SecondMoments:
    x = np.random.default_rng(n).standard_normal((n_tokens, n)).astype(np.float32)
    return SecondMoments(x.T @ x, n_tokens)


@pytest.fixture
def folder(tmp_path: Path) -> GradientFolder:
    folder = GradientFolder.create(tmp_path / "gradients", KEY)
    folder.write(NAME, FisherFactors(some(8, 50).total, (some(5, 50).total,), 50))
    return folder


def test_means_come_back(folder: GradientFolder) -> None:
    again = GradientFolder.open(folder.path)
    assert again.key == KEY
    assert again.covers(NAME)
    assert not again.covers("blk.1.attn_q.weight")
    found = again.gradients(NAME)
    for ours, theirs in ((found.inputs, some(8, 50)), (found.outputs[0], some(5, 50))):
        np.testing.assert_allclose(ours.total / ours.n_tokens, theirs.total / theirs.n_tokens, rtol=1e-6)


def test_a_folder_of_another_model_is_not_written_to(folder: GradientFolder) -> None:
    with pytest.raises(RequestError, match="another model"):
        GradientFolder.create(folder.path, replace(KEY, model="another"))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"model": 1}', b"\xff"])
def test_a_damaged_key_is_refused(folder: GradientFolder, content: bytes) -> None:
    (folder.path / KEY_FILE).write_bytes(content)
    with pytest.raises(RequestError, match="damaged"):
        GradientFolder.open(folder.path)


@pytest.mark.parametrize("n_kept", [0, 1, 100, 400])
def test_a_file_that_was_cut_is_refused(folder: GradientFolder, n_kept: int) -> None:
    path = folder.path / f"{NAME}.npz"
    path.write_bytes(path.read_bytes()[:n_kept])
    with pytest.raises(RequestError, match=r"attn_q\.weight\.npz is missing or damaged"):
        folder.gradients(NAME)


def test_gradients_that_are_not_finite_are_refused(folder: GradientFolder) -> None:
    bad = np.full((5, 5), np.nan, dtype=np.float32)
    with (folder.path / f"{NAME}.npz").open("wb") as file:
        np.savez(file, inputs=some(8, 50).total, outputs=bad)
    with pytest.raises(RequestError, match="not finite"):
        folder.gradients(NAME)


def test_a_weight_without_gradients_is_refused(folder: GradientFolder) -> None:
    with pytest.raises(RequestError, match="missing"):
        folder.gradients("output.weight")
