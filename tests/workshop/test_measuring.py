"""Files beside each other: the numbers are those of `localllm.evaluate`, however they are grouped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import LocalLLMError, NotEnoughMemory, RequestError
from localllm.evaluate import Chunks, Evaluation, Subject, compare
from localllm.llama import Model
from localllm.workshop import Measurements, MeasureRequest, check_files, measure_files, measuring
from tests.runtime.embedding_models import write_encoder
from tests.tiny_model import write_tiny_model
from tests.workshop.watching import Watcher


@pytest.fixture
def files(workplace: Path) -> list[Path]:
    """A model and two that are like it."""
    near = [write_tiny_model(workplace / f"near{n}.gguf", n_ctx=4096, noise=0.1 * n) for n in (1, 2)]
    return [workplace / "tiny.gguf", *near]


def request_for(folder: Path, **more: object) -> MeasureRequest:
    given = {"texts": (folder / "text.txt",), "n_ctx": 64, "n_chunks": 3, "gpu_layers": 0, "n_threads": 1}
    return MeasureRequest(**(given | more))  # type: ignore[arg-type]


def untimed(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, decode_s=0.0)


def measured(paths: list[Path], request: MeasureRequest) -> Measurements:
    return measure_files(paths, request, Watcher())


def test_numbers_are_those_of_a_direct_comparison(workplace: Path, files: list[Path]) -> None:
    found = measured(files, request_for(workplace))
    with Model(files[0]) as a, Model(files[1]) as b, Model(files[2]) as c:
        chunks = Chunks.of_text((workplace / "text.txt").read_text(), a.vocab, 64, 3)
        direct = compare(Subject(a, n_threads=1), [Subject(b, n_threads=1), Subject(c, n_threads=1)], chunks)
    assert [untimed(file.evaluation) for file in found.files] == list(map(untimed, (direct.reference, *direct.others)))
    assert [file.path for file in found.files] == files and found.n_chunks == 3
    assert [file.n_bytes for file in found.files] == [path.stat().st_size for path in files]
    assert all(file.type_name == "F32" and 32 < file.bpw < 40 and file.speed is None for file in found.files)


def test_what_does_not_fit_at_once_takes_turns(
    workplace: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(workplace)
    at_once = measured(files, request)
    one = measuring._plan(files[0], request).need_bytes(64)
    groups: list[int] = []
    real = measuring._measure_group
    monkeypatch.setattr(
        measuring, "_measure_group", lambda group, *rest: groups.append(len(group)) or real(group, *rest)
    )
    monkeypatch.setattr(measuring, "available_ram_bytes", lambda: int(2.5 * one))
    in_turns = measured(files, request)
    assert groups == [2, 2]
    assert [untimed(file.evaluation) for file in in_turns.files] == [untimed(file.evaluation) for file in at_once.files]
    monkeypatch.setattr(measuring, "available_ram_bytes", lambda: int(1.5 * one))
    with pytest.raises(NotEnoughMemory, match="2 contexts at once"):
        measured(files, request)


def test_a_file_that_is_named_twice_is_measured_once(workplace: Path, files: list[Path]) -> None:
    assert len(measured([files[0], files[0], files[1], files[0]], request_for(workplace)).files) == 2


def test_several_texts_are_read_one_after_the_other(workplace: Path, files: list[Path]) -> None:
    other = workplace / "other.txt"
    other.write_text("All alone on the other wall. " * 60)
    texts = (workplace / "text.txt", other)
    found = measured(files[:1], request_for(workplace, texts=texts))
    assert found.text_names == tuple(map(str, texts)) and found.n_chunks == 6
    alone = [measured(files[:1], request_for(workplace, texts=(text,))) for text in texts]
    assert len({one.text_sha256 for one in (found, *alone)}) == 3


def test_without_a_text_it_is_the_one_that_comes_along(workplace: Path, files: list[Path]) -> None:
    assert measured(files[:1], request_for(workplace, texts=(), n_chunks=1)).text_names == ("alice",)


def test_speed_is_measured_where_it_is_wanted(workplace: Path, files: list[Path]) -> None:
    found = measured(files[:2], request_for(workplace, has_speed=True))
    assert all(file.speed is not None and file.speed.generation.median > 0 for file in found.files)


def test_what_would_fail_later_fails_at_once(workplace: Path, files: list[Path]) -> None:
    write_encoder(workplace / "encoder.gguf")
    write_tiny_model(workplace / "foreign.gguf", n_ctx=4096, n_more_tokens=3)
    (workplace / "short.txt").write_text("Too short.")

    def refused(paths: list[Path], **more: object) -> str:
        with pytest.raises(LocalLLMError) as caught:
            check_files(paths, request_for(workplace, **more))
        assert caught.value.hint
        return caught.value.message

    check_files(files, request_for(workplace))
    assert "makes no text" in refused([workplace / "encoder.gguf"])
    assert "different vocabularies" in refused([files[0], workplace / "foreign.gguf"])
    assert "short.txt: The text has" in refused(files, texts=(workplace / "short.txt",))
    assert "Cannot read" in refused(files, texts=(workplace / "none.txt",))
    assert "none.gguf" in refused([workplace / "none.gguf"])


def test_ctrl_c_ends_it(workplace: Path, files: list[Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_files(files, request_for(workplace), Watcher(stop_at="reading the text"))


def test_an_empty_request_is_refused_by_the_chunks(workplace: Path, files: list[Path]) -> None:
    with pytest.raises(RequestError, match="0 chunks"):
        measured(files, request_for(workplace, n_chunks=0))
