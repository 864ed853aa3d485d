"""`localllm inspect`, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Result
from tests.tiny_model import write_tiny_model
from tests.workshop.conftest import scale_channel

TEXT = "The world in the hollow well, and all the other words on her wall. " * 30


@pytest.fixture
def inspect(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    write_tiny_model(tmp_path / "odd.gguf", n_ctx=4096)
    for layer in range(2):
        scale_channel(tmp_path / "odd.gguf", f"blk.{layer}.attn_norm.weight", 13, 50.0)
    (tmp_path / "text.txt").write_text(TEXT)

    def run(*arguments: str) -> Result:
        flags = ("--text", "text.txt", "--n-ctx", "64", "--chunks", "3", "--threads", "1", "--gpu-layers", "0")
        return cli("inspect", *flags, *arguments)

    return run


def test_tables_name_the_channel(inspect: Any) -> None:
    result = inspect("odd.gguf", "--outliers")
    assert result.code == 0 and "Outlier channels" in result.out and "192 tokens read" in result.err
    lines = [line.split() for line in result.out.splitlines()]
    (channel,) = [line for line in lines if line[:4] == ["attn_k", "attn_q", "attn_v", "13"]]
    assert channel[6:9] == ["2", "of", "2"]
    assert ["ffn_down", "2"] in [line[:2] for line in lines]


def test_none_are_none(inspect: Any) -> None:
    assert "No outlier channels" in inspect("tiny.gguf", "--outliers").out


def test_json_holds_everything(inspect: Any) -> None:
    found = json.loads(inspect("odd.gguf", "--outliers", "--q8-kld", "--json", "-").out)
    assert set(found) == {
        "version", "llama_cpp", "rule", "text_names", "n_tokens", "n_ctx", "inputs", "rounding", "q8_divergence",
    }  # fmt: skip
    assert found["rule"] == {"magnitude": 6.0, "layer_share": 0.25, "position_share": 0.06}
    assert set(found["inputs"][0]) == {
        "kind", "n_layers", "n_cols", "n_rows", "max", "rms", "kurtosis", "outliers",
    }  # fmt: skip
    assert set(found["inputs"][0]["outliers"][0]) == {"channel", "max", "rms", "n_layers", "position_share"}
    assert set(found["rounding"][0]) == {"kind", "n_layers", "weights", "inputs", "both", "token_scale"}
    assert 0 < found["q8_divergence"]["kl"]["value"] < 0.1


def test_the_magnitude_can_be_another(inspect: Any) -> None:
    assert "No outlier channels" in inspect("odd.gguf", "--outliers", "--magnitude", "1e6").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny.gguf",), "Nothing to look for"),
        (("none.gguf", "--outliers"), "none.gguf"),
        (("tiny.gguf", "--outliers", "--magnitude", "0"), "must be above 0"),
        (("tiny.gguf", "--outliers", "--chunks", "0"), "0 chunks"),
        (("tiny.gguf", "--outliers", "--text", "none.txt"), "Cannot read none.txt"),
        (("tiny.gguf", "--outliers", "--json", "nowhere/x.json"), "Cannot write nowhere/x.json"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(inspect: Any, arguments: tuple[str, ...], said: str) -> None:
    result = inspect(*arguments)
    assert result.code != 0 and said in result.err and "hint: " in result.err and "bug" not in result.err
    assert result.out == ""
