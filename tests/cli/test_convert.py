"""`localllm convert` on a tiny checkpoint."""

from __future__ import annotations

from pathlib import Path

from localllm.cli.convert import TYPES
from localllm.convert import OUTPUT_TYPES
from tests.cli.conftest import Cli
from tests.convert.checkpoints import write_llama


def test_path_goes_to_stdout_and_the_rest_to_stderr(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    result = cli("convert", str(write_llama(tmp_path / "llama")), str(target), "--type", "q8_0")
    assert (result.code, result.out) == (0, f"{target}\n")
    assert "llama, " in result.err and target.is_file()


def test_bad_checkpoint_is_an_error_with_a_hint(cli: Cli, tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama", model_type="new", architectures=["NewForCausalLM"])
    result = cli("convert", str(folder), str(tmp_path / "out.gguf"))
    assert result.code == 3 and result.out == ""
    assert "'NewForCausalLM'" in result.err and "Known are" in result.err


def test_types_are_those_that_can_be_written() -> None:
    assert set(TYPES) == set(OUTPUT_TYPES)
