"""`localllm imatrix`, with real tiny models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.calibrate import GradientFolder, MomentFolder
from localllm.quantize.imatrix import read_imatrix
from tests.bert import BertConfig, random_checkpoint, tiny_vocabulary, write_bert
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.cli.conftest import Cli, Result
from tests.tiny_model import write_tiny_model

Imatrix = Callable[..., Result]


@pytest.fixture
def imatrix(cli: Cli, tmp_path: Path) -> Imatrix:
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text("The world in the hollow well. " * 60)

    def run(*options: str, verb: str = "imatrix", model: str = "tiny.gguf", text: bool = True) -> Result:
        files = ("--calibration", str(tmp_path / "text.txt")) if text else ()
        return cli(
            verb, str(tmp_path / model), str(tmp_path / "out.gguf"), "--threads", "1", "--n-ctx", "64", *files, *options
        )

    return run


@pytest.mark.parametrize("verb", ["imatrix", "calibrate"])
def test_file_is_written_and_stdout_stays_empty(imatrix: Imatrix, tmp_path: Path, verb: str) -> None:
    result = imatrix("--chunks", "3", verb=verb)
    assert (result.code, result.out) == (0, "")
    assert "14 tensors · 3 chunks of 64 tokens" in result.err
    found = read_imatrix(tmp_path / "out.gguf")
    assert found.n_chunks == 3 and found.datasets == (str(tmp_path / "text.txt"),)


def test_moments_and_output_layer_on_demand(imatrix: Imatrix, tmp_path: Path) -> None:
    result = imatrix("--chunks", "2", "--moments", str(tmp_path / "h"), "--memory", "1GB", "--process-output")
    assert result.code == 0
    assert MomentFolder.open(tmp_path / "h").moment("output.weight").n_rows == 128
    assert "output.weight" in read_imatrix(tmp_path / "out.gguf").entries


def test_gradients_beside_the_moments(imatrix: Imatrix, tmp_path: Path) -> None:
    result = imatrix("--chunks", "3", "--moments", str(tmp_path / "h"), "--kl-aware", "--kl-chunks", "2")
    assert result.code == 0
    folder = GradientFolder.open(tmp_path / "h" / "gradients")
    assert folder.is_finished and folder.key.n_tokens == 2 * 64
    assert all(folder.covers(f"blk.{layer}.ffn_gate.weight") for layer in range(2))


def test_gradients_want_a_folder(imatrix: Imatrix) -> None:
    result = imatrix("--kl-aware")
    assert result.code == 6 and "--kl-aware writes into a folder" in result.err


def test_a_model_without_gradients_is_refused_before_it_reads(imatrix: Imatrix, tmp_path: Path) -> None:
    write_tiny_moe(tmp_path / "moe.gguf")
    result = imatrix("--moments", str(tmp_path / "h"), "--kl-aware", model="moe.gguf")
    assert result.code != 0 and "gradients of experts are not known here" in result.err
    assert not (tmp_path / "h").exists()


def test_default_text_has_conversations_in_the_models_template(
    imatrix: Imatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localllm.workshop import calibration

    seen = []
    real = calibration.cut
    monkeypatch.setattr(calibration, "cut", lambda documents, *rest: seen.extend(documents) or real(documents, *rest))
    assert imatrix("--chunks", "2", text=False).code == 0
    assert [document.name for document in seen][-1] == "chats" and len(seen) == 6
    chats = seen[-1]
    assert chats.has_specials and chats.text.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    write_tiny_model(tmp_path / "base.gguf", n_ctx=4096, chat_template=None)
    assert imatrix("--chunks", "2", "--force", text=False, model="base.gguf").code == 0
    assert not seen[-1].has_specials and "\n\nAssistant: " in seen[-1].text


def test_text_of_the_model_itself(imatrix: Imatrix, tmp_path: Path) -> None:
    assert imatrix("--self", "--chunks", "2", "--seed", "3", text=False).code == 0
    found = read_imatrix(tmp_path / "out.gguf")
    assert (found.datasets, found.n_chunks) == (("self",), 2)


def test_file_that_is_there_is_replaced_only_if_that_is_asked_for(imatrix: Imatrix, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"precious")
    result = imatrix("--chunks", "1")
    assert result.code != 0 and "is there already" in result.err and "--force" in result.err
    assert (tmp_path / "out.gguf").read_bytes() == b"precious"
    assert imatrix("--chunks", "1", "--force").code == 0
    assert "is the model itself" in imatrix("--force", model="out.gguf").err
    assert read_imatrix(tmp_path / "out.gguf").n_chunks == 1


def test_fewer_chunks_than_asked_for_are_told(imatrix: Imatrix) -> None:
    assert "not 999" in imatrix("--chunks", "999").err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--n-ctx", "4000"), "a chunk takes 4000"),
        (("--chunks", "0"), "0 chunks"),
        (("--self",), "two texts to choose from"),
        (("--memory", "much"), "--memory is 'much'; it must be a size such as 512MB or 12GB"),
        (("--moments", "h", "--memory", "1KB"), "beside the model there are 0 B"),
        (("--calibration", "none.txt"), "Cannot read none.txt"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    imatrix: Imatrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = imatrix(*options)
    assert result.code != 0 and said in result.err and "hint: " in result.err and "bug" not in result.err
    assert result.out == "" and not (tmp_path / "out.gguf").exists()


def test_encoder_is_refused(imatrix: Imatrix, tmp_path: Path) -> None:
    config, words = BertConfig(), tiny_vocabulary()
    write_bert(tmp_path / "encoder.gguf", random_checkpoint(config, len(words)), config, words)
    result = imatrix(model="encoder.gguf")
    assert result.code != 0 and "makes no text" in result.err and "hint: " in result.err
