"""Passes, interruptions and damage: whatever happens between, the bytes at the end are the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import Chunks, Document, MomentFolder, Progress, cut, work
from localllm.calibrate.plan import reader_bytes
from localllm.calibrate.reader import Reader
from localllm.errors import NotEnoughDisk, NotEnoughMemory, RequestError
from localllm.gguf import ModelShape, read_header
from localllm.llama import Model
from localllm.quantize.sinks import N_SINK
from tests.calibrate.conftest import TEXT, Calibrate


def moments(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".npy", ".json")}


def little_memory(model: Model, extra_bytes: int) -> int:
    shape = ModelShape.from_header(read_header(model.path))
    return reader_bytes(shape, 64, 64) + extra_bytes


def counted() -> tuple[list[Progress], Callable[[Progress], None]]:
    seen: list[Progress] = []
    return seen, seen.append


def stops_after(n: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.n_done == n:
            raise KeyboardInterrupt

    return on_progress


@pytest.fixture
def whole(tiny: Model, run: Calibrate, tmp_path: Path) -> dict[str, bytes]:
    run(tiny, out="whole.gguf", moments=tmp_path / "whole")
    return moments(tmp_path / "whole")


def test_several_passes_give_the_bytes_of_one(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes], chunks: Chunks
) -> None:
    seen, on_progress = counted()
    run(tiny, moments=tmp_path / "h", memory_bytes=little_memory(tiny, 1_400_000), on_progress=on_progress)
    assert seen[-1].n_total > 2 * chunks.n_chunks, "more than two passes were needed"
    assert seen[-1].n_done == seen[-1].n_total and seen[-1].left_s == 0
    assert moments(tmp_path / "h") == whole
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.mark.parametrize("n_done", [1, 5, 7, 12])
def test_stopped_run_goes_on_and_gives_the_same_bytes(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes], n_done: int
) -> None:
    memory = little_memory(tiny, 1_400_000)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, moments=tmp_path / "h", memory_bytes=memory, on_progress=stops_after(n_done))
    assert not (tmp_path / "out.gguf").exists()
    kept = set(moments(tmp_path / "h"))
    run(tiny, moments=tmp_path / "h", memory_bytes=memory)
    assert kept <= set(whole)
    assert moments(tmp_path / "h") == whole
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_finished_parts_are_not_computed_again(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes], chunks: Chunks
) -> None:
    memory = little_memory(tiny, 1_400_000)
    n_first = chunks.n_chunks + 1
    with pytest.raises(KeyboardInterrupt):
        run(tiny, moments=tmp_path / "h", memory_bytes=memory, on_progress=stops_after(n_first))
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "h").glob("blk.*.npy")}
    assert finished, "the first pass was over"
    run(tiny, moments=tmp_path / "h", memory_bytes=memory)
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    seen, on_progress = counted()
    run(tiny, moments=tmp_path / "h", out="again.gguf", on_progress=on_progress)
    assert not seen, "nothing is left to read"
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_damaged_part_is_found_and_computed_again(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run(tiny, moments=tmp_path / "h")
    flipped, cut_short, gone = (tmp_path / "h" / f"blk.{name}.npy" for name in ("0.attn_q", "1.ffn_down", "1.attn_q"))
    data = bytearray(flipped.read_bytes())
    data[-100] ^= 1
    flipped.write_bytes(data)
    cut_short.write_bytes(cut_short.read_bytes()[:-1])
    gone.unlink()
    (tmp_path / "h" / "blk.0.ffn_down.json").write_text("{")
    run(tiny, moments=tmp_path / "h")
    assert moments(tmp_path / "h") == whole


def test_run_that_is_stopped_among_the_first_tokens_goes_on(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes], chunks: Chunks
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny, moments=tmp_path / "h", on_progress=stops_after(chunks.n_chunks + 2))
    assert set(moments(tmp_path / "h")) == {name for name in whole if ".first4." not in name}
    run(tiny, moments=tmp_path / "h")
    assert moments(tmp_path / "h") == whole


def test_folder_of_a_former_version_serves_and_gets_the_first_tokens_by_reading_them_alone(
    tiny: Model,
    run: Calibrate,
    tmp_path: Path,
    whole: dict[str, bytes],
    chunks: Chunks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(tiny, moments=tmp_path / "h")
    for path in (tmp_path / "h").glob("*.first4.*"):
        path.unlink()
    for path in (tmp_path / "h").glob("blk.*.json"):
        fields = json.loads(path.read_text())
        del fields["n_first"]
        path.write_text(json.dumps(fields))
    former = moments(tmp_path / "h")
    found = MomentFolder.open(tmp_path / "h")
    assert found.covers("blk.0.attn_k.weight") and found.sink_moments("blk.0.attn_k.weight") is None
    n_tokens = []
    read = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, tokens: n_tokens.append(len(tokens)) or read(self, tokens))
    run(tiny, moments=tmp_path / "h")
    assert n_tokens == [N_SINK] * chunks.n_chunks
    assert moments(tmp_path / "h") == former | {name: data for name, data in whole.items() if ".first4." in name}


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_damaged_first_tokens_are_found_and_refused_until_they_are_read_again(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes], suffix: str
) -> None:
    run(tiny, moments=tmp_path / "h")
    path = tmp_path / "h" / f"blk.1.attn_q.first4.{suffix}"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RequestError, match="missing or damaged"):
        MomentFolder.open(tmp_path / "h").sink_moments("blk.1.attn_v.weight")
    run(tiny, moments=tmp_path / "h")
    assert moments(tmp_path / "h") == whole


def test_what_a_killed_run_left_half_written_goes_when_the_part_is_written(
    tiny: Model, run: Calibrate, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny, moments=tmp_path / "h", on_progress=stops_after(2))
    left = tmp_path / "h" / ".blk.0.attn_q.npy.4711.partial"
    left.write_bytes(b"half")
    run(tiny, moments=tmp_path / "h")
    assert not left.exists()


def test_sums_alone_go_on_in_the_middle(
    tiny: Model, run: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny, out="whole.gguf")
    monkeypatch.setattr("localllm.calibrate.sums.SAVE_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, on_progress=stops_after(2))
    seen, on_progress = counted()
    run(tiny, on_progress=on_progress)
    assert [progress.n_done for progress in seen] == [1, 2, 3] and seen[0].n_total == 3
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"out.gguf", "whole.gguf"}


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"not an archive"])
def test_damaged_state_is_started_over(
    tiny: Model, run: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    run(tiny, out="whole.gguf")
    (tmp_path / f".out.gguf.{work.SUMS_FILE}").write_bytes(damage)
    run(tiny)
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_folder_of_another_text_is_refused(tiny: Model, moe: Model, run: Calibrate, tmp_path: Path) -> None:
    run(tiny, moments=tmp_path / "h")
    other = cut([Document("other", "another text " * 200)], tiny.vocab, n_ctx=64)
    longer = cut([Document("other", "another text " * 200)], tiny.vocab, n_ctx=128)
    with pytest.raises(RequestError, match="of another text"):
        run(tiny, other, moments=tmp_path / "h")
    with pytest.raises(RequestError, match="chunks of 64 tokens, not 128"):
        run(tiny, longer, moments=tmp_path / "h")
    with pytest.raises(RequestError, match="of another model"):
        run(moe, moments=tmp_path / "h")


def test_folder_with_something_else_in_it_is_refused(tiny: Model, run: Calibrate, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for path in (tmp_path / "home", tmp_path / "home" / "letter.txt"):
        with pytest.raises(RequestError, match="something else"):
            run(tiny, moments=path)
    with pytest.raises(RequestError, match="folder, or in none"):
        run(tiny, out="nowhere/out.gguf")


def test_memory_that_holds_no_single_moment_is_refused_before_reading(
    tiny: Model, run: Calibrate, tmp_path: Path
) -> None:
    seen, on_progress = counted()
    with pytest.raises(NotEnoughMemory, match=r"second moments of blk\.1\.ffn_down\.weight's 128 columns need"):
        run(tiny, moments=tmp_path / "h", memory_bytes=little_memory(tiny, 1000), on_progress=on_progress)
    assert not seen


def test_disk_without_room_is_refused_before_reading(
    tiny: Model, run: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.calibrate.folder.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(NotEnoughDisk, match="has 10 B free"):
        run(tiny, moments=tmp_path / "h")


def test_diagonal_is_what_the_importance_matrix_says(moe: Model, run: Calibrate, tmp_path: Path) -> None:
    found = run(moe, moments=tmp_path / "h")
    folder = MomentFolder.open(tmp_path / "h")
    for name, entry in found.entries.items():
        for mat, sums in enumerate(entry.sums):
            moment = folder.moment(name, mat)
            np.testing.assert_allclose(np.diagonal(moment.h), sums, rtol=1e-6)
            np.testing.assert_array_equal(moment.h, moment.h.T)
            assert moment.n_rows == entry.counts[mat]


def test_weight_that_is_not_there_is_an_error(tiny: Model, run: Calibrate, tmp_path: Path) -> None:
    run(tiny, moments=tmp_path / "h")
    folder = MomentFolder.open(tmp_path / "h")
    with pytest.raises(RequestError, match=r"no second moment of blk\.9"):
        folder.moment("blk.9.attn_q.weight")
    with pytest.raises(RequestError, match="missing or damaged"):
        MomentFolder.open(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from localllm.calibrate import CalibrationOptions, Document, calibrate, cut, sums
from localllm.gguf import ModelShape, read_header
from localllm.llama import Model

sums.SAVE_S = 0.0
model_path, folder, memory, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def on_progress(progress):
    if progress.n_done == last:
        os.kill(os.getpid(), signal.SIGKILL)

with Model(model_path) as model:
    chunks = cut([Document("text", (folder / "text.txt").read_text())], model.vocab, n_ctx=64, n_chunks=5)
    options = CalibrationOptions(n_threads=1, memory_bytes=memory, moments=folder / "h")
    shape = ModelShape.from_header(read_header(model_path))
    calibrate(model, shape, chunks, folder / "out.gguf", options, on_progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on Windows")
def test_killed_process_costs_a_pass_and_changes_no_byte(
    tiny: Model, run: Calibrate, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    memory = little_memory(tiny, 1_400_000)
    command = [sys.executable, "-c", KILLED, str(tiny.path), str(tmp_path), str(memory)]
    for last in ("3", "7"):
        assert subprocess.run([*command, last], capture_output=True).returncode == -signal.SIGKILL
        assert not (tmp_path / "out.gguf").exists()
    assert set(moments(tmp_path / "h")) > {"calibration.json"}, "the second try finished a pass"
    run(tiny, moments=tmp_path / "h", memory_bytes=memory)
    assert moments(tmp_path / "h") == whole
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
