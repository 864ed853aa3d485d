"""`localllm eval`, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localllm.cli.eval import requested_kv_types
from localllm.errors import NotEnoughMemory, RequestError
from localllm.evaluate.memory import check_memory
from tests.cli.conftest import Cli, Result
from tests.runtime.embedding_models import write_encoder
from tests.tiny_model import write_tiny_model

TEXT = "The world in the hollow well, and all the other words on her wall. " * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    write_tiny_model(folder / "tiny.gguf", n_ctx=4096)
    write_tiny_model(folder / "other.gguf", n_ctx=4096, seed=1)
    write_tiny_model(folder / "odd.gguf", n_ctx=4096, head_dim=40)
    write_encoder(folder / "encoder.gguf")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture
def evaluate(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(folder)

    def run(*arguments: str, n_ctx: str = "64") -> Result:
        return cli("eval", *arguments, "--text", "text.txt", "--n-ctx", n_ctx, "--threads", "1", "--gpu-layers", "0")

    return run


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.out.splitlines() if ".gguf" in line]


def test_alone_it_is_perplexity(evaluate: Any) -> None:
    result = evaluate("tiny.gguf")
    assert result.code == 0
    ((name, kv, kv_bytes, value, _, error, *dashes, _speed),) = rows(result)
    assert (name, kv, kv_bytes, dashes) == ("tiny.gguf", "f16", str(2 * 2 * 32 * 2), ["–"] * 3)
    assert float(value) > 1 and 0 < float(error) < float(value)
    assert "tokens scored" in result.err and "not a benchmark" in result.err


def test_kv_types_are_a_table_with_the_rounding_first(evaluate: Any) -> None:
    found = rows(evaluate("tiny.gguf", "--kv-type", "q8_0", "--kv-type", "q4_0,f16", "--kv-type", "f16"))
    assert [(row[1], row[2]) for row in found] == [
        ("f16", "256"),
        ("f16", "(control)"),
        ("q8_0", "136"),
        ("q4_0,f16", "164"),
        ("f16", "256"),
    ]
    assert found[-1][6:9] == ["0.000000", "±", "0.000000"]
    assert float(found[3][6]) > float(found[2][6]) > 0


def test_control_can_be_left_out_and_details_follow_one_row(evaluate: Any) -> None:
    result = evaluate("tiny.gguf", "--kv-type", "q4_0", "--no-control")
    assert len(rows(result)) == 2
    assert all(name in result.out for name in ("median KLD", "99.9 % KLD", "RMS Δp", "ln(PPL/PPL ref)"))


def test_against_another_model_it_is_divergence(evaluate: Any) -> None:
    same, other = evaluate("tiny.gguf", "--against", "tiny.gguf"), evaluate("tiny.gguf", "--against", "other.gguf")
    assert [row[0] for row in rows(other)] == ["other.gguf", "tiny.gguf"]
    assert float(rows(same)[1][6]) == 0 < float(rows(other)[1][6])
    assert float(rows(other)[1][3]) == float(rows(same)[0][3])
    assert rows(evaluate("tiny.gguf", "--reference", "other.gguf"))[1][:8] == rows(other)[1][:8]


def test_json_holds_everything_and_stdout_stays_a_table(evaluate: Any, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    result = evaluate("tiny.gguf", "--kv-type", "q8_0", "--chunks", "2", "--json", str(file))
    fields = json.loads(file.read_text())
    assert len(rows(result)) == 3
    assert (fields["n_ctx"], fields["n_chunks"], fields["n_threads"], fields["text"]) == (64, 2, 1, "text.txt")
    assert len(fields["text_sha256"]) == 64 and fields["llama_cpp"] and fields["version"]
    reference, control, other = fields["rows"]
    assert reference["divergence"] is None and control["is_control"] and not other["is_control"]
    assert other["kv_predicted_bytes"] == other["kv_bytes_per_token"] * 256
    assert other["n_scored"] == 2 * 31
    assert set(other["divergence"]) == {
        "kl", "median", "p90", "p95", "p99", "p999", "max", "same_top", "delta_p_mean", "delta_p_rms",
        "log_perplexity_ratio",
    }  # fmt: skip
    assert other["divergence"]["kl"]["standard_error"] > 0


def test_json_to_stdout_is_all_there_is(evaluate: Any) -> None:
    assert len(json.loads(evaluate("tiny.gguf", "--json", "-").out)["rows"]) == 1


def test_the_default_text_is_there(cli: Cli, folder: Path) -> None:
    result = cli("eval", str(folder / "tiny.gguf"), "--chunks", "1", "--threads", "1", "--json", "-")
    assert json.loads(result.out)["text"] == "alice"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("odd.gguf", "--kv-type", "q8_0"), "K cannot be kept as q8_0: its blocks hold 32 values"),
        (("odd.gguf", "--kv-type-v", "iq4_nl"), "V cannot be kept as iq4_nl"),
        (("tiny.gguf", "--kv-type", "q8"), "Did you mean q8_0?"),
        (("tiny.gguf", "--kv-type", "f16,f16,f16"), "one type for both, or K,V"),
        (("encoder.gguf",), "makes no text"),
        (("tiny.gguf", "--against", "encoder.gguf"), "makes no text"),
        (("none.gguf",), "No file none.gguf"),
        (("tiny.gguf", "--chunks", "0"), "0 chunks"),
        (("tiny.gguf", "--json", "nowhere/x.json"), "Cannot write nowhere/x.json"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(evaluate: Any, arguments: tuple[str, ...], said: str) -> None:
    result = evaluate(*arguments)
    assert result.code != 0 and said in result.err and "hint: " in result.err and "bug" not in result.err
    assert result.out == ""


def test_short_text_says_how_much_is_needed(evaluate: Any) -> None:
    result = evaluate("tiny.gguf", n_ctx="4000")
    assert result.code == 6 and "a chunk takes 4000" in result.err


def test_fewer_chunks_than_asked_for_are_told(evaluate: Any) -> None:
    assert "not 999" in evaluate("tiny.gguf", "--chunks", "999").err


def test_kv_types_of_a_side_go_before_those_of_both() -> None:
    assert requested_kv_types((), None, None, has_reference=False) == []
    assert requested_kv_types((), None, None, has_reference=True) == [("f16", "f16")]
    assert requested_kv_types((), None, "q4_0", has_reference=False) == [("f16", "q4_0")]
    assert requested_kv_types(("q8_0", "q4_0,bf16"), "f32", None, has_reference=False) == [
        ("f32", "q8_0"),
        ("f32", "bf16"),
    ]
    with pytest.raises(RequestError):
        requested_kv_types(("a,b,c",), None, None, has_reference=False)


def test_more_contexts_than_fit_are_refused() -> None:
    with pytest.raises(NotEnoughMemory, match=r"Needs 3.0 GiB for 9 contexts at once, 2.0 GiB free") as caught:
        check_memory(3 << 30, 9, 2 << 30)
    assert caught.value.hint
