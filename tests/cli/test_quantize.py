"""`localllm quantize`, on tiny models."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from localllm.calibrate import GradientFolder
from localllm.gguf import read_header
from localllm.quantize import write_imatrix
from tests.cli.conftest import Cli
from tests.cli.files_schema import SCHEMA
from tests.convert.checkpoints import write_llama
from tests.quantize.peer import Wanted, as_imatrix, types
from tests.quantize.skeleton import Skeleton
from tests.runtime.embedding_models import write_encoder
from tests.tiny_model import write_tiny_model

SKELETON = Skeleton(n_layer=3)
ONE_THREAD = ("--threads", "1", "--method", "rtn")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    SKELETON.write(tmp_path / "f32.gguf")
    write_imatrix(tmp_path / "i.gguf", as_imatrix(SKELETON.importance()))
    return tmp_path


def test_the_file_is_llama_cpps(cli: Cli, folder: Path) -> None:
    result = cli("quantize", "f32.gguf", "q.gguf", *ONE_THREAD)
    assert result.code == 0 and result.out == ""
    assert "q.gguf: " in result.err and "bits per weight" in result.err
    theirs = Wanted("Q4_K_M").by_llama_cpp(Path("f32.gguf"), Path("theirs.gguf"))
    assert Path("q.gguf").read_bytes() == theirs.read_bytes()


def test_importance_is_used_and_named(cli: Cli, folder: Path) -> None:
    result = cli("quantize", "f32.gguf", "q.gguf", "--imatrix", "i.gguf", "--type", "q2_k_s", *ONE_THREAD)
    assert result.code == 0 and "lacks 1 of the tensors, such as output.weight" in result.err
    theirs = Wanted("Q2_K_S", SKELETON.importance()).by_llama_cpp(Path("f32.gguf"), Path("theirs.gguf"))
    ours, theirs_header = read_header("q.gguf"), read_header(theirs)
    assert ours.metadata["quantize.imatrix.file"] == "i.gguf"
    n_data = theirs_header.n_bytes - theirs_header.data_offset
    assert Path("q.gguf").read_bytes()[ours.data_offset :] == theirs.read_bytes()[-n_data:]


def test_json_says_what_was_made(cli: Cli, folder: Path) -> None:
    made = json.loads(cli("quantize", "f32.gguf", "q.gguf", "--type", "Q8_0", "--json", *ONE_THREAD).out)
    assert made["type"] == "Q8_0" and made["method"] == "rtn" and made["path"] == "q.gguf"
    assert made["n_bytes"] == Path("q.gguf").stat().st_size
    assert made["tensor_types"] == {"q8_0": 23, "f32": 13}


def test_exceptions_are_made(cli: Cli, folder: Path) -> None:
    flags = ("--tensor-type", "attn_[qk]=q6_k", "--output-tensor-type", "Q8_0", "--token-embedding-type", "IQ4_XS")
    assert cli("quantize", "f32.gguf", "q.gguf", "--pure", *flags, *ONE_THREAD).code == 0
    made = types(Path("q.gguf"))
    assert made["blk.1.attn_k.weight"] == "q6_K" and made["blk.1.attn_v.weight"] == "q4_K"
    assert (made["output.weight"], made["token_embd.weight"]) == ("q8_0", "iq4_xs")


def test_a_dry_run_makes_nothing(cli: Cli, folder: Path) -> None:
    result = cli("quantize", "f32.gguf", "q.gguf", "--dry-run")
    assert result.code == 0 and not Path("q.gguf").exists()
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["name", "from", "to", "size"] and lines[-1][0] == "all"
    assert ["blk.0.attn_v.weight", "F32", "Q4_K", "288", "B"] in lines


def test_a_file_that_is_there_stays(cli: Cli, folder: Path) -> None:
    Path("q.gguf").write_bytes(b"old")
    result = cli("quantize", "f32.gguf", "q.gguf", *ONE_THREAD)
    assert result.code == 6 and "is there already" in result.err and "--force" in result.err
    assert Path("q.gguf").read_bytes() == b"old"
    assert cli("quantize", "f32.gguf", "q.gguf", "--force", *ONE_THREAD).code == 0
    assert read_header("q.gguf").n_bytes > 100


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (("--type", "Q9_K"), "'Q9_K' is no file type", "Q4_K_M"),
        (("--tensor-type", "attn_q"), "it must be REGEX=TYPE", "ffn_down=Q6_K"),
        (("--tensor-type", "attn_[=Q6_K"), "no regular expression", "attn_["),
        (("--tensor-type", "attn_q=Q4_K_M"), "'Q4_K_M' is no type that tensors can be made of", "Q4_K"),
        (("--output-tensor-type", "IQ1_S"), "'IQ1_S' is no type", "Q8_0"),
        (("--imatrix", "f32.gguf"), "f32.gguf: is no importance matrix", "localllm imatrix"),
        (("--imatrix", "none.gguf"), "Cannot read none.gguf", "--imatrix"),
        (("--type", "Q2_K_S"), "Q2_K_S is garbage without an importance matrix", "--imatrix"),
    ],
)
def test_bad_requests_are_refused(cli: Cli, folder: Path, flags: tuple[str, ...], message: str, hint: str) -> None:
    result = cli("quantize", "f32.gguf", "q.gguf", *flags, *ONE_THREAD)
    assert result.code in (3, 6)
    assert message in result.err and hint in result.err
    assert sorted(os.listdir()) == ["f32.gguf", "i.gguf"]


def test_a_folder_that_is_not_there_is_named(cli: Cli, folder: Path) -> None:
    result = cli("quantize", "f32.gguf", "none/q.gguf", *ONE_THREAD)
    assert result.code == 6 and "Cannot write none" in result.err


def test_quantized_sources_need_leave(cli: Cli, folder: Path) -> None:
    assert cli("quantize", "f32.gguf", "q8.gguf", "--type", "Q8_0", *ONE_THREAD).code == 0
    result = cli("quantize", "q8.gguf", "q4.gguf", *ONE_THREAD)
    assert result.code == 3 and "is quantized already" in result.err and "--allow-requantize" in result.err
    assert cli("quantize", "q8.gguf", "q4.gguf", "--allow-requantize", *ONE_THREAD).code == 0


def test_rows_that_no_super_block_fits_are_told(cli: Cli, folder: Path) -> None:
    Skeleton(n_embd=64).write(folder / "narrow.gguf")
    result = cli("quantize", "narrow.gguf", "q.gguf", *ONE_THREAD)
    assert result.code == 0 and "blocks do not fit" in result.err


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)


def test_a_report_is_printed(cli: Cli, tiny: Path) -> None:
    result = cli("quantize", "tiny.gguf", "q.gguf", "--type", "Q8_0", *ONE_THREAD, "--report")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["file", "tiny.gguf", "q.gguf"]
    assert "mean KLD" in result.out and "of memory" in result.err and sorted(os.listdir()) == ["q.gguf", "tiny.gguf"]


def test_a_report_is_written_as_its_name_says(cli: Cli, tiny: Path) -> None:
    for name in ("r.json", "r.md"):
        result = cli("quantize", "tiny.gguf", "q.gguf", "--type", "Q8_0", "--force", *ONE_THREAD, "--report", name)
        assert result.code == 0 and "mean KLD" in result.out
    found = json.loads(Path("r.json").read_text())
    jsonschema.validate(found, SCHEMA)
    assert found["files"][1]["n_bytes"] == Path("q.gguf").stat().st_size
    assert found["peak_bytes"] > 1 << 20 and found["elapsed_s"] > 0 and found["method"] == "rtn"
    assert Path("r.md").read_text().startswith("| file | type | bytes |")


def test_a_report_belongs_into_the_json(cli: Cli, tiny: Path) -> None:
    result = cli("quantize", "tiny.gguf", "q.gguf", "--type", "Q8_0", "--json", *ONE_THREAD, "--report")
    found = json.loads(result.out)
    jsonschema.validate(found["report"], SCHEMA)
    assert found["report"]["files"][1]["divergence"]["kl"]["value"] > 0


@pytest.mark.parametrize(
    ("report", "said"), [("q.gguf", "must end in .md or .json"), ("none/r.md", "Cannot write none/r.md")]
)
def test_a_report_that_cannot_be_written_is_refused_at_once(cli: Cli, tiny: Path, report: str, said: str) -> None:
    result = cli("quantize", "tiny.gguf", "q.gguf", *ONE_THREAD, "--report", report)
    assert result.code == 6 and said in result.err and os.listdir() == ["tiny.gguf"]


def test_a_model_that_makes_no_text_cannot_be_reported_on(cli: Cli, tiny: Path) -> None:
    write_encoder(Path("encoder.gguf"))
    result = cli("quantize", "encoder.gguf", "q.gguf", *ONE_THREAD, "--report")
    assert result.code == 3 and "makes no text" in result.err and not Path("q.gguf").exists()


def test_a_hugging_face_folder_is_converted_first(cli: Cli, folder: Path) -> None:
    write_llama(folder / "llama")
    assert cli("quantize", "llama", "q.gguf", "--type", "Q8_0", *ONE_THREAD).code == 0
    assert cli("convert", "llama", "converted.gguf", "--type", "f32").code == 0
    assert cli("quantize", "converted.gguf", "expected.gguf", "--type", "Q8_0", *ONE_THREAD).code == 0
    assert Path("q.gguf").read_bytes() == Path("expected.gguf").read_bytes()
    assert not any(name.startswith(".") for name in os.listdir())


def test_nothing_is_converted_for_what_is_there_already(cli: Cli, folder: Path) -> None:
    write_llama(folder / "llama")
    Path("q.gguf").write_bytes(b"mine")
    result = cli("quantize", "llama", "q.gguf", *ONE_THREAD)
    assert result.code == 6 and "q.gguf is there already" in result.err
    assert Path("q.gguf").read_bytes() == b"mine" and not any(name.startswith(".") for name in os.listdir())


def test_a_plan_is_of_a_file(cli: Cli, folder: Path) -> None:
    write_llama(folder / "llama")
    result = cli("quantize", "llama", "q.gguf", "--dry-run", *ONE_THREAD)
    assert result.code == 6 and "SRC is a folder" in result.err and "localllm convert" in result.err


def test_gradients_are_for_feedback(cli: Cli, tiny: Path) -> None:
    result = cli("quantize", "tiny.gguf", "q.gguf", "--kl-aware", *ONE_THREAD)
    assert result.code == 6 and "--method rtn has none" in result.err


def test_gradients_are_collected_where_they_are_missing(cli: Cli, tiny: Path) -> None:
    Path("text.txt").write_text("The world in the hollow well, and all the other words. " * 300)
    flags = ("--type", "Q4_0", "--threads", "1", "--moments", "h", "--calibration", "text.txt")
    assert cli("quantize", "tiny.gguf", "plain.gguf", *flags).code == 0
    assert cli("quantize", "tiny.gguf", "q.gguf", *flags, "--kl-aware").code == 0
    assert GradientFolder.open(Path("h/gradients")).is_finished
    assert Path("q.gguf").read_bytes() != Path("plain.gguf").read_bytes()


def test_channels_are_scaled_before_rounding(cli: Cli, folder: Path) -> None:
    write_tiny_model(folder / "tiny.gguf", n_ctx=4096)
    (folder / "text.txt").write_text("The world in the hollow well, and all the other words. " * 60)
    flags = ("--type", "Q4_0", "--threads", "1", "--calibration", "text.txt", "--moments", "h", "--json")
    made = {
        method: json.loads(cli("quantize", "tiny.gguf", f"{method}.gguf", "--method", method, *flags).out)
        for method in ("gptq", "awq", "awq+gptq")
    }
    assert [each["method"] for each in made.values()] == list(made)
    assert len({Path(f"{method}.gguf").read_bytes()[-20_000:] for method in made}) == 3
    assert read_header("awq.gguf").metadata["quantize.awq"] is True
    assert "quantize.awq" not in read_header("gptq.gguf").metadata


def test_a_graph_that_is_not_known_is_told(cli: Cli, folder: Path) -> None:
    Skeleton(arch="falcon").write(folder / "falcon.gguf")
    write_imatrix(folder / "f.gguf", as_imatrix(Skeleton(arch="falcon").importance()))
    result = cli("quantize", "falcon.gguf", "q.gguf", "--imatrix", "f.gguf", "--threads", "1", "--method", "awq")
    assert result.code == 0 and "Nothing is folded: falcon is none of" in result.err
