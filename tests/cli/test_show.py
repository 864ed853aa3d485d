"""`localllm show` prints an aligned page, or one JSON object, from the header alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from localllm.cli.show import command
from localllm.errors import InvalidModelFile, ModelNotFound
from tests.demo_model import require_demo_model
from tests.gguf.raw import ARCH, TEXT, gguf_bytes, pair, write
from tests.tiny_model import write_tiny_model


def show(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_page_holds_facts_types_and_metadata(tmp_path: Path) -> None:
    page = show(write_tiny_model(tmp_path / "tiny.gguf"))
    lines = page.splitlines()
    assert "Architecture  llama" in lines
    assert "Layers        2, 64 wide" in lines
    assert "Heads         2 (1 for keys and values), 32 wide" in lines
    assert "Quantization  F32, 32.00 bits per weight" in lines
    assert any(line.split() == ["llama.block_count", "u32", "2"] for line in lines)
    assert "Tensors" not in lines
    assert page == "\n".join(line.rstrip() for line in lines) + "\n"


def test_tensors_are_listed_on_demand(tmp_path: Path) -> None:
    page = show(write_tiny_model(tmp_path / "tiny.gguf"), "--tensors")
    assert "blk.1.ffn_down.weight" in page
    assert "128 × 64" in page


def test_json_is_one_object(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    summary = json.loads(show(path, "--json"))
    assert (summary["architecture"], summary["shape"]["n_layer"]) == ("llama", 2)
    assert "tensors" not in summary
    tensors = json.loads(show(path, "--json", "--tensors"))["tensors"]
    assert tensors[0] == {"name": "token_embd.weight", "type": "f32", "shape": [64, 273], "n_bytes": 69888}


def test_escape_sequences_reach_no_terminal(tmp_path: Path) -> None:
    pairs = [ARCH, pair("general.name", TEXT, "\x1b[2Jgone"), pair("k\x1b]0;x\x07", TEXT, "\x9b1m\n")]
    page = show(write(tmp_path / "bad.gguf", gguf_bytes(pairs)))
    assert all(char.isprintable() or char == "\n" for char in page)
    assert "\\x1b[2Jgone" in page


def test_file_without_tensors_is_shown(tmp_path: Path) -> None:
    page = show(write(tmp_path / "vocab.gguf", gguf_bytes(tensors=[])))
    assert "Cannot run    vocab.gguf: llama.block_count is missing" in page


def test_errors_are_raised_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        show(tmp_path / "missing.gguf")
    with pytest.raises(InvalidModelFile):
        show(write(tmp_path / "bad.gguf", b"GGUF"))


@pytest.mark.real
def test_real_model_is_shown_at_once() -> None:
    code = "from localllm.cli.show import command; command()"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(require_demo_model())], check=True, capture_output=True, timeout=30)
    # It takes 0.1 s on the machine where this was written; the rest is for slower ones.
    assert time.perf_counter() - start < 2
