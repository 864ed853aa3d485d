"""Gradients in a folder: what is finished stays, a stopped run gives the same files, what does not fit is refused."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import Chunks, GradientFolder, KlAwareOptions, collect_gradients, kl_aware
from localllm.calibrate.gradients import BOUNDARY_FILE
from localllm.errors import NotEnoughDisk, NotEnoughMemory, RequestError, UnsupportedModel
from localllm.gguf import GGUFHeader, read_header
from localllm.gradients import Decoder, FisherFactors, GradientOptions, GradientProgress, collect
from localllm.gradients import fisher as fisher_module
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.tiny_model import write_tiny_model

GIB = 1 << 30
N_LAYER = 3
Collect = Callable[..., GradientFolder]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> GGUFHeader:
    return read_header(write_tiny_model(tmp_path_factory.mktemp("kl") / "tiny.gguf", arch="qwen2", n_layer=N_LAYER))


@pytest.fixture(scope="module")
def text() -> Chunks:
    return Chunks(("text",), np.random.default_rng(0).integers(0, 256, (3, 16), dtype=np.int32))


@pytest.fixture
def run(header: GGUFHeader, text: Chunks, tmp_path: Path) -> Collect:
    def run(name: str = "g", *, stop_after: int | None = None, memory_bytes: int = GIB, **options: object):  # type: ignore[no-untyped-def]
        seen: list[GradientProgress] = options.pop("seen", [])  # type: ignore[assignment]

        def on_progress(progress: GradientProgress) -> None:
            seen.append(progress)
            if len(seen) == stop_after:
                raise KeyboardInterrupt

        wanted = KlAwareOptions(1, memory_bytes)
        return collect_gradients(
            options.get("header", header),
            options.get("text", text),
            tmp_path / name,
            wanted,
            on_progress,  # type: ignore[arg-type]
        )

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def whole(run: Collect, tmp_path: Path) -> dict[str, bytes]:
    run("whole")
    return files(tmp_path / "whole")


def test_means_over_the_tokens_are_written(
    run: Collect, header: GGUFHeader, text: Chunks, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    folder = run()
    assert folder.is_finished and folder.key.n_tokens == text.n_tokens
    factors: dict[str, FisherFactors] = {}
    collect(
        Decoder(header, text.n_ctx),
        text.tokens,
        lambda layer: factors.update(layer.factors),
        GradientOptions(tmp_path, GIB),
    )
    assert len(factors) == 7 * N_LAYER and len(whole) == len(factors) + 1
    for name, expected in factors.items():
        found = folder.gradients(name)
        np.testing.assert_array_equal(found.inputs.total, expected.inputs / text.n_tokens)
        np.testing.assert_array_equal(found.outputs[0].total, expected.outputs[0] / text.n_tokens)


@pytest.mark.parametrize("stop_after", [1, 9, 12, 13, 15, 18, 20, 21])
def test_stopped_run_goes_on_and_gives_the_same_bytes(
    run: Collect, tmp_path: Path, whole: dict[str, bytes], stop_after: int
) -> None:
    """Nine chunks of layers forward, three at the output, nine back."""
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=stop_after)
    assert not GradientFolder.open(tmp_path / "g").is_finished
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "g").glob("blk.*.npz")}
    n_finished = max(0, (stop_after - 13) // 3)
    assert len(times) == 7 * n_finished
    seen: list[GradientProgress] = []
    run(seen=seen)
    assert len(seen) == (21 if not n_finished else 2 * 3 * (N_LAYER - n_finished))
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert files(tmp_path / "g") == whole


def test_what_is_finished_is_not_computed_again(run: Collect, tmp_path: Path, whole: dict[str, bytes]) -> None:
    seen: list[GradientProgress] = []
    run("whole", seen=seen)
    assert not seen
    assert files(tmp_path / "whole") == whole


@pytest.mark.parametrize("name", ["blk.2.attn_q.weight.npz", BOUNDARY_FILE])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damage_is_found_and_made_good(
    run: Collect, tmp_path: Path, whole: dict[str, bytes], name: str, damage: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=17)
    path = tmp_path / "g" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-30], "flipped": data, "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    run()
    assert files(tmp_path / "g") == whole


def test_another_text_is_another_folder(run: Collect, text: Chunks) -> None:
    run()
    with pytest.raises(RequestError, match="another model, or text"):
        run(text=replace(text, tokens=text.tokens[:2]))


def test_of_many_outputs_the_diagonal_blocks_come_back(
    run: Collect, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fisher_module, "WHOLE_OUTPUTS", 100)
    monkeypatch.setattr(fisher_module, "BLOCK", 50)
    name = "blk.0.ffn_up.weight"
    with np.load(run().path / f"{name}.npz") as file:
        assert [file[part].shape for part in file.files] == [(64, 64), (50, 50), (50, 50), (28, 28)]
    found = GradientFolder.open(tmp_path / "g").gradients(name).outputs
    (expected,) = GradientFolder.open(tmp_path / "whole").gradients(name).outputs
    for block, start in zip(found, (0, 50, 100), strict=True):
        here = slice(start, start + block.n_cols)
        np.testing.assert_allclose(block.total, expected.total[here, here], rtol=1e-5, atol=1e-9)


def test_too_little_memory_is_refused_before_anything_is_made(run: Collect, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughMemory, match=r"Gradients need .* MiB, and 1\.0 MiB are allowed"):
        run(memory_bytes=1 << 20)
    assert not (tmp_path / "g").exists()


def test_little_memory_gives_the_same_bytes(
    run: Collect, header: GGUFHeader, text: Chunks, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run(memory_bytes=kl_aware._working_bytes(Decoder(header, text.n_ctx), text))
    assert files(tmp_path / "g") == whole


def test_a_disk_without_room_is_refused(run: Collect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1 << 16))
    with pytest.raises(NotEnoughDisk, match="The gradients take"):
        run()
    assert not list((tmp_path / "g").glob("*.npz"))


def test_experts_are_refused(run: Collect, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="experts"):
        run(header=read_header(write_tiny_moe(tmp_path / "moe.gguf")))
    assert not (tmp_path / "g").exists()
