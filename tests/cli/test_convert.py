"""`localllm convert` on a tiny checkpoint and a tiny adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.cli.convert import TYPES
from localllm.convert import OUTPUT_TYPES
from localllm.gguf import read_header
from tests.cli.conftest import Cli
from tests.convert.adapters import random_halves, write_adapter
from tests.convert.checkpoints import N_EMBD, write_llama


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


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_llama(tmp_path / "llama")
    return write_adapter(tmp_path / "adapter", random_halves({"model.layers.0.self_attn.q_proj": (N_EMBD, N_EMBD)}))


def test_adapter_is_exact_unless_told_otherwise(cli: Cli, tmp_path: Path, adapter: Path) -> None:
    target = tmp_path / "a.gguf"
    for flags, kind in (((), "f32"), (("--type", "f16"), "f16")):
        result = cli("convert", str(adapter), str(target), "--base", str(tmp_path / "llama"), *flags)
        assert (result.code, result.out) == (0, f"{target}\n") and "in 2 tensors" in result.err
        assert {tensor.type.name for tensor in read_header(target).tensors} == {kind}


def test_base_may_be_a_file(cli: Cli, tmp_path: Path, adapter: Path) -> None:
    base = tmp_path / "llama.gguf"
    assert cli("convert", str(tmp_path / "llama"), str(base)).code == 0
    assert cli("convert", str(adapter), str(tmp_path / "a.gguf"), "--base", str(base)).code == 0
    result = cli("convert", str(adapter), str(tmp_path / "a.gguf"), "--base", str(tmp_path / "none.gguf"))
    assert result.code == 4 and "none.gguf" in result.err


def test_what_an_adapter_needs_is_said(cli: Cli, tmp_path: Path, adapter: Path) -> None:
    result = cli("convert", str(adapter), str(tmp_path / "a.gguf"))
    assert result.code == 6 and "someone/some-model" in result.err and "hint: Give that model with --base" in result.err
    result = cli("convert", str(tmp_path / "llama"), str(tmp_path / "a.gguf"), "--base", str(tmp_path / "llama"))
    assert result.code == 6 and "--base is for adapters" in result.err
    assert not (tmp_path / "a.gguf").exists()
