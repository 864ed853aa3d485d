"""`localllm bench`, on tiny models."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from localllm.evaluate import speed
from tests.cli.conftest import Cli, Result
from tests.cli.files_schema import SCHEMA
from tests.tiny_model import write_tiny_model

TEXT = "The world in the hollow well, and all the other words on her wall. " * 30
FLAGS = ("--text", "text.txt", "--n-ctx", "64", "--chunks", "3", "--threads", "1", "--gpu-layers", "0")
CALIBRATION = ("--method", "rtn")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "SECONDS_ENOUGH", 0.0)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def bench(cli: Cli, folder: Path) -> Any:
    def run(*arguments: str) -> Result:
        return cli("bench", *FLAGS, *arguments)

    return run


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_markdown_json_and_plot_say_the_same(bench: Any, folder: Path) -> None:
    outputs = ("--json", "b.json", "--markdown", "b.md", "--plot", "b.svg")
    result = bench("tiny.gguf", "--types", "Q8_0", "q4_0", *CALIBRATION, *outputs)
    assert result.code == 0
    found = json.loads(Path("b.json").read_text())
    jsonschema.validate(found, SCHEMA)
    assert [file["type"] for file in found["files"]] == ["F32", "Q8_0", "Q4_0"] and found["method"] == "rtn"
    assert (found["n_ctx"], found["n_chunks"], found["texts"]) == (64, 3, ["text.txt"])
    head, _, *rows = [cells(line) for line in Path("b.md").read_text().splitlines() if line.startswith("|")]
    for row, file in zip(rows, found["files"], strict=True):
        shown = dict(zip(head, row, strict=True))
        assert (shown["file"], shown["type"]) == (file["file"], file["type"])
        assert shown["bytes"] == f"{file['n_bytes']:,}" and shown["bits/weight"] == f"{file['bpw']:.2f}"
        assert shown["perplexity"].startswith(f"{file['perplexity']['value']:.3f} ± ")
        kl = file["divergence"] and file["divergence"]["kl"]
        assert shown["mean KLD"] == (f"{kl['value']:.4f} ± {kl['standard_error']:.4f}" if kl else "–")
        assert shown["generation tok/s"].startswith(f"{file['speed']['generation']['median']:.1f} (")
    table_rows = [line.split() for line in result.out.splitlines()]
    assert [row[0] for row in table_rows[1:]] == ["tiny.gguf", "tiny-Q8_0.gguf", "tiny-Q4_0.gguf"]
    root = ElementTree.fromstring(Path("b.svg").read_text())
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2 and {"Q8_0", "Q4_0"} <= texts
    assert "tok/s: median of 3 rounds" in result.err and list((folder / "tmp").iterdir()) == []


def test_json_on_stdout_is_all_there_is(bench: Any) -> None:
    result = bench("tiny.gguf", "--json", "-", "--no-speed")
    found = json.loads(result.out)
    jsonschema.validate(found, SCHEMA)
    assert len(found["files"]) == 1 and found["files"][0]["speed"] is None and found["method"] is None


def test_alone_it_is_perplexity_and_speed(bench: Any) -> None:
    head = bench("tiny.gguf").out.splitlines()[0]
    assert "perplexity" in head and "generation tok/s" in head
    assert "KLD" not in head and "made in" not in head


def test_types_may_be_named_in_any_way(bench: Any) -> None:
    result = bench("tiny.gguf", "--types", "Q8_0,Q4_0", "--types", "Q5_0", *CALIBRATION, "--no-speed")
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["F32", "Q8_0", "Q4_0", "Q5_0"]


def test_given_files_and_a_reference_are_compared(bench: Any, folder: Path) -> None:
    write_tiny_model(folder / "near.gguf", n_ctx=4096, noise=0.1)
    result = bench("near.gguf", "--reference", "tiny.gguf", "--no-speed")
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["tiny.gguf", "near.gguf"]
    result = bench("tiny.gguf", "--file", "near.gguf", "--no-speed", "--plot", "p.svg")
    assert result.code == 0 and "near" in Path("p.svg").read_text()


def test_files_are_kept_where_that_is_asked_for(bench: Any, folder: Path) -> None:
    arguments = ("tiny.gguf", "--types", "Q8_0", *CALIBRATION, "--no-speed", "--out", "kept")
    assert bench(*arguments).code == 0
    again = bench(*arguments)
    assert again.code == 6 and "is there already" in again.err and "--force" in again.err
    assert bench(*arguments, "--force").code == 0
    assert [path.name for path in (folder / "kept").iterdir()] == ["tiny-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.gguf",), "none.gguf"),
        (("tiny.gguf", "--types", "Q9"), "'Q9' is no file type"),
        (("tiny.gguf", "--file", "none.gguf"), "none.gguf"),
        (("tiny.gguf", "--json", "nowhere/x.json"), "Cannot write nowhere/x.json"),
        (("tiny.gguf", "--markdown", "nowhere/x.md"), "Cannot write nowhere/x.md"),
        (("tiny.gguf", "Q8_0", "--plot", "nowhere/x.svg"), "Cannot write nowhere/x.svg"),
        (("tiny.gguf", "Q8_0", "--plot", "x.gif"), "must end in .svg or .png"),
        (("tiny.gguf", "--plot", "x.svg"), "needs other files"),
        (("tiny.gguf", "Q8_0", "--out", "text.txt"), "Cannot make files in text.txt"),
        (("tiny.gguf", "--chunks", "0"), "0 chunks"),
        (("tiny.gguf", "--text", "none.txt"), "Cannot read none.txt"),
        (("tiny.gguf", "Q8_0", "--memory", "much"), "--memory is 'much'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(bench: Any, arguments: tuple[str, ...], said: str) -> None:
    result = bench(*arguments)
    assert result.code != 0 and said in result.err and "hint: " in result.err and "bug" not in result.err
    assert result.out == ""


def test_a_quantized_source_is_refused(bench: Any) -> None:
    assert bench("tiny.gguf", "Q4_0", *CALIBRATION, "--no-speed", "--out", "kept").code == 0
    result = bench("kept/tiny-Q4_0.gguf", "Q8_0")
    assert result.code == 3 and "is quantized already" in result.err


def test_png_needs_what_draws_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.cli.plot_file.find_spec", lambda _: None)
    result = bench("tiny.gguf", "Q8_0", "--plot", "x.png")
    assert result.code == 6 and "localllm[png]" in result.err


def test_png_is_a_picture(bench: Any) -> None:
    pytest.importorskip("resvg_py")
    assert bench("tiny.gguf", "Q8_0", *CALIBRATION, "--no-speed", "--plot", "x.png").code == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG\r\n")
