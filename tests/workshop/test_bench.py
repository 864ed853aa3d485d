"""File types beside each other, from one 16-bit file, on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import LocalLLMError, RequestError
from localllm.gguf import read_header
from localllm.quantize import file_bytes, file_type, plan_mix
from localllm.workshop import Bench, BenchRequest, CalibrationRequest, MeasureRequest, bench, bench_file
from tests.tiny_model import write_tiny_model
from tests.workshop.watching import Watcher


def request_for(folder: Path, *types: str, **more: object) -> BenchRequest:
    text = folder / "text.txt"
    given: dict[str, object] = {
        "types": types,
        "calibration": CalibrationRequest((text,), n_ctx=64, memory_bytes=1 << 30, n_threads=1),
        "measure": MeasureRequest((text,), 64, 3, gpu_layers=0, n_threads=1),
    }
    return BenchRequest(**(given | more))  # type: ignore[arg-type]


def run(folder: Path, *types: str, watcher: Watcher | None = None, **more: object) -> Bench:
    return bench_file(folder / "tiny.gguf", request_for(folder, *types, **more), watcher or Watcher())


def test_every_type_is_made_once_and_compared_with_the_model(workplace: Path) -> None:
    watcher = Watcher()
    found = run(workplace, "Q8_0", "q4_0", "Q4_0", watcher=watcher)
    files = found.measurements.files
    assert [file.type_name for file in files] == ["F32", "Q8_0", "Q4_0"] and watcher.types == ["Q8_0", "Q4_0"]
    assert [file.path.name for file in files] == ["tiny.gguf", "tiny-Q8_0.gguf", "tiny-Q4_0.gguf"]
    assert files[0].evaluation.divergence is None
    eight, four = (file.evaluation.divergence for file in files[1:])
    assert eight is not None and four is not None
    assert 0 < eight.kl.value < 0.1 * four.kl.value
    assert [made.n_bytes for made in found.made.values()] == [file.n_bytes for file in files[1:]]
    assert set(found.made) == {file.path for file in files[1:]}
    assert list((workplace / "tmp").iterdir()) == [] and not any(path.exists() for path in found.made)


def test_the_calibration_is_done_once(workplace: Path) -> None:
    once, twice = Watcher(), Watcher()
    run(workplace, "Q4_0", watcher=once)
    run(workplace, "Q4_0", "Q5_0", watcher=twice)
    assert once.n_read == twice.n_read > 0


def test_rounding_needs_no_calibration_and_loses_more(workplace: Path) -> None:
    watcher = Watcher()
    by_rounding = run(workplace, "Q4_0", watcher=watcher, method="rtn")
    by_feedback = run(workplace, "Q4_0")
    assert watcher.n_read == 0
    losses = [found.measurements.files[1].evaluation.divergence for found in (by_feedback, by_rounding)]
    assert losses[0] is not None and losses[1] is not None
    assert losses[0].kl.value < losses[1].kl.value


def test_a_folder_keeps_what_is_made_and_nothing_else(workplace: Path) -> None:
    out = workplace / "new" / "out"
    found = run(workplace, "Q8_0", out=out)
    assert [path.name for path in out.iterdir()] == ["tiny-Q8_0.gguf"]
    assert read_header(out / "tiny-Q8_0.gguf").n_bytes == found.measurements.files[1].n_bytes
    with pytest.raises(RequestError, match="there already"):
        run(workplace, "Q8_0", out=out)
    run(workplace, "Q8_0", out=out, may_replace=True)
    assert [path.name for path in out.iterdir()] == ["tiny-Q8_0.gguf"]


def test_a_calibration_of_the_users_stays(workplace: Path) -> None:
    calibration = CalibrationRequest((workplace / "text.txt",), n_ctx=64, memory_bytes=1 << 30, moments=workplace / "h")
    run(workplace, "Q4_0", calibration=calibration)
    assert (workplace / "h" / "imatrix.gguf").exists()


def test_without_types_it_measures_what_is_there(workplace: Path) -> None:
    other = write_tiny_model(workplace / "other.gguf", n_ctx=4096, noise=0.2)
    alone = run(workplace)
    assert [file.path.name for file in alone.measurements.files] == ["tiny.gguf"] and alone.made == {}
    with_reference = run(workplace, reference=other).measurements.files
    assert [file.path.name for file in with_reference] == ["other.gguf", "tiny.gguf"]
    assert with_reference[1].evaluation.divergence is not None
    with_file = run(workplace, files=(other,)).measurements.files
    assert [file.path.name for file in with_file] == ["tiny.gguf", "other.gguf"]


@pytest.mark.parametrize(
    "watcher", [Watcher(stop_after=1), Watcher(stop_at="reading the text"), Watcher(stop_at="timing")]
)
@pytest.mark.parametrize("out", [None, "out"])
def test_ctrl_c_leaves_no_temporary_files(workplace: Path, watcher: Watcher, out: str | None) -> None:
    measure = MeasureRequest((workplace / "text.txt",), 64, 3, gpu_layers=0, n_threads=1, has_speed=True)
    with pytest.raises(KeyboardInterrupt):
        run(workplace, "Q8_0", watcher=watcher, measure=measure, out=out and workplace / out)
    assert list((workplace / "tmp").iterdir()) == []
    if out:
        assert {path.name for path in (workplace / out).iterdir()} <= {"tiny-Q8_0.gguf"}


def test_what_cannot_be_done_is_refused_before_anything_is_made(workplace: Path) -> None:
    run(workplace, "Q4_0", method="rtn", out=workplace / "out")
    (workplace / "file").write_text("no folder")
    write_tiny_model(workplace / "foreign.gguf", n_ctx=4096, n_more_tokens=3)
    watcher = Watcher()

    def refused(source: str, *types: str, **more: object) -> str:
        with pytest.raises(LocalLLMError) as caught:
            bench_file(workplace / source, request_for(workplace, *types, **more), watcher)
        assert caught.value.hint
        return caught.value.message

    assert "is quantized already" in refused("out/tiny-Q4_0.gguf", "Q8_0")
    assert "'Q9' is no file type" in refused("tiny.gguf", "Q4_0", "Q9")
    assert "Cannot make files in" in refused("tiny.gguf", "Q4_0", out=workplace / "file")
    assert "different vocabularies" in refused("tiny.gguf", "Q4_0", files=(workplace / "foreign.gguf",))
    assert "none.gguf" in refused("tiny.gguf", "Q4_0", files=(workplace / "none.gguf",))
    assert watcher.n_read == 0 and watcher.types == [] and list((workplace / "tmp").iterdir()) == []


def test_a_disk_without_room_is_found_at_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def no_room(path: Path, n_bytes: int) -> None:
        asked.append(n_bytes)
        raise RequestError("no room", hint="none")

    monkeypatch.setattr(bench, "check_room", no_room)
    with pytest.raises(RequestError, match="no room"):
        run(workplace, "Q4_0", "Q8_0")
    header = read_header(workplace / "tiny.gguf")
    sizes = [file_bytes(header, plan_mix(header, file_type(name))) for name in ("Q4_0", "Q8_0")]
    assert asked == [sum(sizes)]
