"""Full disks and killed processes: a file appears whole or not at all, and the next run gives the same bytes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.cli.app import app
from localllm.cli.errors import guarded
from localllm.convert import convert
from localllm.errors import RequestError
from localllm.workshop import Budget, CalibrationRequest, QuantizeRequest, quantize_file
from tests.convert.checkpoints import write_llama
from tests.tiny_model import write_tiny_model
from tests.workshop.faulty import command, kill_in
from tests.workshop.test_quantization import TEXT, Watcher

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither SIGKILL nor limits on files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text(TEXT)
    write_llama(tmp_path / "llama")
    return tmp_path


def quantized(folder: Path, name: str, watcher: Watcher | None = None, budget: Budget | None = None) -> bytes:
    """Quantize as the killed processes do."""
    text = CalibrationRequest((folder / "text.txt",), n_ctx=64, memory_bytes=1 << 30)
    request = QuantizeRequest("Q4_0", calibration=text, n_threads=1, budget=budget)
    quantize_file(folder / "tiny.gguf", folder / name, request, watcher or Watcher())
    return (folder / name).read_bytes()


# A disk that becomes full.

CALIBRATION = ("--calibration", "text.txt", "--threads", "1")
COMMANDS = {
    "convert": ("convert", "llama", "out.gguf"),
    "imatrix": ("imatrix", "tiny.gguf", "out.gguf", "--n-ctx", "64", *CALIBRATION),
    "moments": ("imatrix", "tiny.gguf", "out.gguf", "--n-ctx", "64", "--moments", "h", *CALIBRATION),
    "quantize": ("quantize", "tiny.gguf", "out.gguf", "--method", "rtn", "--threads", "1"),
    "quantize by gptq": ("quantize", "tiny.gguf", "out.gguf", "--type", "Q4_0", "--moments", "h", *CALIBRATION),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_becomes_full_is_a_clear_error_and_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder)
    assert guarded(lambda: app.main([*COMMANDS[name]], standalone_mode=False)) == 0
    whole = Path("out.gguf").read_bytes()
    n_largest = max(path.stat().st_size for path in [Path("out.gguf"), *Path().glob("h/*.npy")])
    Path("out.gguf").unlink()
    shutil.rmtree("h", ignore_errors=True)
    there = sorted(os.listdir())

    full = command(*COMMANDS[name], max_file_bytes=n_largest // 2)
    assert full.code == 10 and full.out == ""
    assert "error: Cannot write" in full.err and "File too large" in full.err and "hint: Free some room" in full.err
    assert "Traceback" not in full.err
    assert not Path("out.gguf").exists() and not list(Path().rglob(".*.partial"))
    assert set(os.listdir()) - set(there) <= {"h", ".out.gguf.squares.npz"}, "what the next run goes on with"

    assert guarded(lambda: app.main([*COMMANDS[name]], standalone_mode=False)) == 0
    assert Path("out.gguf").read_bytes() == whole


# A process that is killed.


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"tiny.gguf", "text.txt", "llama", "whole.gguf"}


def test_a_killed_conversion_is_begun_anew(folder: Path) -> None:
    convert(folder / "llama", folder / "whole.gguf")
    kill_in("convert", folder / "llama", folder / "out.gguf")
    (partial,) = leftovers(folder)
    assert partial.startswith(".out.gguf.") and partial.endswith(".partial")
    convert(folder / "llama", folder / "out.gguf")
    assert (folder / "out.gguf").read_bytes() == (folder / "whole.gguf").read_bytes()
    assert leftovers(folder) == {"out.gguf"}


@pytest.mark.parametrize("stage", ["calibrate", "quantize"])
def test_a_killed_quantization_goes_on_and_gives_the_same_bytes(folder: Path, stage: str) -> None:
    whole = quantized(folder, "whole.gguf")
    kill_in(stage, folder / "tiny.gguf", folder / "out.gguf")
    assert not (folder / "out.gguf").exists() and (folder / ".out.gguf.calibration").is_dir()
    watcher = Watcher()
    assert quantized(folder, "out.gguf", watcher) == whole
    assert leftovers(folder) == {"out.gguf"}
    assert (watcher.n_read == 0) == (stage == "quantize"), "a calibration that was finished is not done again"


def test_a_search_for_types_that_was_killed_leaves_no_files_of_its_own(folder: Path) -> None:
    whole = quantized(folder, "whole.gguf", budget=Budget(bpw=6))
    kill_in("measuring the parts", folder / "tiny.gguf", folder / "out.gguf")
    assert not (folder / "out.gguf").exists()
    assert quantized(folder, "out.gguf", budget=Budget(bpw=6)) == whole
    assert leftovers(folder) == {"out.gguf"}


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "text.txt").write_text(TEXT[::-1]),
        lambda folder: write_tiny_model(folder / "tiny.gguf", n_ctx=4096, seed=7),
    ],
    ids=["another text", "another model"],
)
def test_what_a_killed_run_measured_of_something_else_is_not_used(folder: Path, change: Change) -> None:
    kill_in("quantize", folder / "tiny.gguf", folder / "out.gguf")
    change(folder)
    assert quantized(folder, "out.gguf") == quantized(folder, "whole.gguf")
    assert leftovers(folder) == {"out.gguf"}


def test_moments_that_a_killed_run_left_unfinished_are_not_taken_for_whole(folder: Path) -> None:
    text = CalibrationRequest((folder / "text.txt",), n_ctx=64, moments=folder / "h", memory_bytes=1 << 30)
    request = QuantizeRequest("Q4_0", calibration=text, n_threads=1)
    quantize_file(folder / "tiny.gguf", folder / "whole.gguf", request, Watcher())
    for part in (folder / "h").glob("blk.1.*"):
        part.unlink()
    kept = QuantizeRequest(
        "Q4_0", imatrix=folder / "h" / "imatrix.gguf", calibration=CalibrationRequest(moments=folder / "h"), n_threads=1
    )
    with pytest.raises(RequestError, match="holds the second moments of chunks of 64 tokens"):
        quantize_file(folder / "tiny.gguf", folder / "out.gguf", kept, Watcher())
    quantize_file(folder / "tiny.gguf", folder / "out.gguf", request, Watcher())
    assert (folder / "out.gguf").read_bytes() == (folder / "whole.gguf").read_bytes()
