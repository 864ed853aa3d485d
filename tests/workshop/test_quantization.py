"""From a 16-bit file to a quantized one by error feedback, on tiny models."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import MomentFolder
from localllm.errors import LocalLLMError, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, GGUFHeader, read_header
from localllm.llama import Model
from localllm.llama.encoding import decode
from localllm.quantize import MixOptions, Quantized, write_imatrix
from localllm.quantize.gptq import proxy_loss
from localllm.quantize.pipeline import read_rows
from localllm.workshop import Budget, CalibrationRequest, QuantizeRequest, quantize_file
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.quantize.peer import as_imatrix
from tests.quantize.skeleton import Skeleton
from tests.tiny_model import write_tiny_model
from tests.workshop.watching import Watcher

TEXT = "The world in the hollow well, and all the other words on her wall. Why not? " * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def request_for(folder: Path, *, n_threads: int = 1, moments: str | None = None, **more: object) -> QuantizeRequest:
    calibration = CalibrationRequest(
        (folder / "text.txt",), n_ctx=64, moments=None if moments is None else folder / moments, memory_bytes=1 << 30
    )
    options = {"type_name": "Q4_0", "calibration": calibration} | more
    return QuantizeRequest(n_threads=n_threads, **options)  # type: ignore[arg-type]


def loss(source: Path, made: Path, moments: MomentFolder) -> float:
    """Proxy losses of all tensors whose inputs are known."""
    ours, theirs = read_header(source), read_header(made)
    total = 0.0
    for tensor, coded in zip(
        sorted(ours.tensors, key=lambda t: t.name), sorted(theirs.tensors, key=lambda t: t.name), strict=True
    ):
        if moments.covers(tensor.name):
            found = moments.second_moments(tensor.name, 0)
            assert found is not None
            n_rows = tensor.shape[1]
            error = rows(ours, tensor, n_rows) - rows(theirs, coded, n_rows)
            total += proxy_loss(error, found)
    return total


def rows(header: GGUFHeader, tensor: object, n_rows: int) -> np.ndarray:
    return decode(tensor.type.name, read_rows(header, tensor, 0, n_rows))  # type: ignore[attr-defined, arg-type]


def make(folder: Path, name: str, request: QuantizeRequest, watcher: Watcher | None = None) -> Quantized:
    return quantize_file(folder / "tiny.gguf", folder / name, request, watcher or Watcher())


def test_outputs_change_less_than_by_rounding_and_the_file_loads(folder: Path) -> None:
    by_feedback = make(folder, "gptq.gguf", request_for(folder, moments="h"))
    by_rounding = make(folder, "rtn.gguf", request_for(folder, method="rtn", imatrix=folder / "h" / "imatrix.gguf"))
    assert by_feedback.n_bytes == by_rounding.n_bytes
    moments = MomentFolder.open(folder / "h")
    losses = [loss(folder / "tiny.gguf", made.path, moments) for made in (by_feedback, by_rounding)]
    assert losses[0] < 0.8 * losses[1]
    with Model(by_feedback.path) as model:
        assert model.vocab.n_tokens > 0


def test_the_bytes_do_not_depend_on_the_threads(folder: Path) -> None:
    request = request_for(folder, moments="h")
    one = make(folder, "one.gguf", request)
    two = make(folder, "two.gguf", request_for(folder, n_threads=2, moments="h"))
    assert one.path.read_bytes() == two.path.read_bytes()


def test_what_was_calibrated_for_one_file_goes_with_it_unless_it_is_to_stay(folder: Path) -> None:
    make(folder, "q.gguf", request_for(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["q.gguf", "text.txt", "tiny.gguf"]
    make(folder, "q2.gguf", request_for(folder, moments="h"))
    assert (folder / "h" / "imatrix.gguf").exists()
    watcher = Watcher()
    kept = QuantizeRequest("Q8_0", calibration=CalibrationRequest(moments=folder / "h"), n_threads=1)
    make(folder, "q3.gguf", kept, watcher)
    assert watcher.n_read == 0


def test_a_run_that_was_stopped_goes_on_without_calibrating_again(folder: Path) -> None:
    make(folder, "whole.gguf", request_for(folder))
    with pytest.raises(KeyboardInterrupt):
        make(folder, "q.gguf", request_for(folder), Watcher(stop_after=1))
    assert not (folder / "q.gguf").exists()
    again = Watcher()
    make(folder, "q.gguf", request_for(folder), again)
    assert again.n_read == 0
    assert (folder / "q.gguf").read_bytes() == (folder / "whole.gguf").read_bytes()


def test_first_tokens_change_keys_and_values_alone_and_a_folder_without_them_is_taken_as_it_is(folder: Path) -> None:
    with_sinks = make(folder, "with.gguf", request_for(folder, moments="h"))
    for path in (folder / "h").glob("*.first4.*"):
        path.unlink()
    watcher = Watcher()
    kept = QuantizeRequest("Q4_0", calibration=CalibrationRequest(moments=folder / "h"), n_threads=1)
    plain = make(folder, "plain.gguf", kept, watcher)
    assert watcher.n_read == 0
    names = [tensor.name for tensor in read_header(plain.path).tensors]
    changed = {name for name in names if (weights_of(plain.path, name) != weights_of(with_sinks.path, name)).any()}
    assert changed == {f"blk.{layer}.attn_{part}.weight" for layer in range(2) for part in "kv"}


def test_experts_have_moments_of_their_own(tmp_path: Path) -> None:
    write_tiny_moe(tmp_path / "tiny.gguf")
    (tmp_path / "text.txt").write_text(TEXT)
    made = make(tmp_path, "q.gguf", request_for(tmp_path))
    assert {tensor.type.name for tensor in read_header(made.path).tensors if "_exps" in tensor.name} == {"q4_0"}


def test_moments_of_another_model_are_refused(folder: Path) -> None:
    make(folder, "q.gguf", request_for(folder, moments="h"))
    write_tiny_model(folder / "other.gguf", n_ctx=4096, seed=7)
    request = QuantizeRequest("Q4_0", calibration=CalibrationRequest(moments=folder / "h"), n_threads=1)
    with pytest.raises(RequestError, match="another model"):
        quantize_file(folder / "other.gguf", folder / "o.gguf", request, Watcher())


def test_bad_requests_end_before_anything_is_read(folder: Path) -> None:
    (folder / "there.gguf").write_bytes(b"x")
    watcher = Watcher()
    with pytest.raises(RequestError, match="there already"):
        make(folder, "there.gguf", request_for(folder), watcher)
    with pytest.raises(LocalLLMError, match="no file type"):
        make(folder, "q.gguf", request_for(folder, type_name="Q9"), watcher)
    assert watcher.n_read == 0


def test_text_shorter_than_a_chunk_leaves_nothing(folder: Path) -> None:
    (folder / "text.txt").write_text("Too short.")
    with pytest.raises(RequestError, match="a chunk takes"):
        make(folder, "q.gguf", request_for(folder))
    assert not (folder / "q.gguf").exists()


@pytest.mark.parametrize("bpw", [4.9, 5.5, 6.5])
def test_a_file_of_a_size_is_nearly_that_large_and_never_larger(tmp_path: Path, bpw: float) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096, n_layer=8, n_embd=128, n_ff=352)
    (tmp_path / "text.txt").write_text(TEXT)
    n_params = sum(tensor.n_params for tensor in read_header(tmp_path / "tiny.gguf").tensors)
    target = int(n_params * bpw / 8)
    made = make(tmp_path, "q.gguf", request_for(tmp_path, budget=Budget(n_bytes=target)))
    assert 0.97 * target <= made.n_bytes == made.path.stat().st_size <= target
    by_bits = make(tmp_path, "b.gguf", request_for(tmp_path, budget=Budget(bpw=bpw)))
    assert abs(by_bits.n_bytes - made.n_bytes) < 64


def test_a_size_leaves_given_types_alone_and_is_measured_once(folder: Path) -> None:
    given = MixOptions(tensor_types=((re.compile("attn_v"), GGML_TYPES_BY_NAME["q8_0"]),))
    request = request_for(folder, moments="h", options=given, budget=Budget(bpw=6))
    first, second = Watcher(), Watcher()
    made = make(folder, "q.gguf", request, first)
    types = {tensor.name: tensor.type.name for tensor in read_header(made.path).tensors}
    assert {kind for name, kind in types.items() if "attn_v" in name} == {"q8_0"}
    again = make(folder, "q2.gguf", request, second)
    assert "measuring the parts" in first.measured and "measuring the parts" not in second.measured
    assert again.path.read_bytes() == made.path.read_bytes()


def test_a_size_for_rounding_brings_its_own_importance(folder: Path) -> None:
    made = make(folder, "q.gguf", request_for(folder, method="rtn", budget=Budget(bpw=6)))
    assert read_header(made.path).metadata["quantize.imatrix.chunks_count"] > 0
    assert sorted(path.name for path in folder.iterdir()) == ["q.gguf", "text.txt", "tiny.gguf"]


def test_a_size_that_no_types_reach_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match="smallest types take"):
        make(folder, "q.gguf", request_for(folder, budget=Budget(n_bytes=5_000)))
    assert not (folder / "q.gguf").exists()


@pytest.mark.parametrize("method", ["awq", "awq+gptq"])
def test_folds_change_the_bytes_and_not_the_size(folder: Path, method: str) -> None:
    plain = method.removeprefix("awq").removeprefix("+") or "rtn"
    watcher = Watcher()
    folded = make(folder, "awq.gguf", request_for(folder, method=method, moments="h"), watcher)
    given = None if plain == "gptq" else folder / "h" / "imatrix.gguf"
    other = make(folder, "plain.gguf", request_for(folder, method=plain, moments="h", imatrix=given))
    assert "folding" in watcher.measured and not watcher.reasons
    assert rows_of(folded.path) == rows_of(other.path)
    assert scaled_norms(folded.path) and not scaled_norms(other.path)
    assert read_header(folded.path).metadata["quantize.awq"] is True
    with Model(folded.path) as model:
        assert model.vocab.n_tokens > 0


def rows_of(path: Path) -> dict[str, tuple[str, int]]:
    return {tensor.name: (tensor.type.name, tensor.n_bytes) for tensor in read_header(path).tensors}


def weights_of(path: Path, name: str) -> np.ndarray:
    header = read_header(path)
    tensor = header.tensor(name)
    assert tensor is not None
    return rows(header, tensor, (*tensor.shape, 1)[1])


def scaled_norms(path: Path) -> list[str]:
    """The tiny models' norms are all 1."""
    names = [tensor.name for tensor in read_header(path).tensors if tensor.name.endswith("_norm.weight")]
    return [name for name in names if (weights_of(path, name) != 1).any()]


def test_folds_make_do_with_an_importance_matrix(folder: Path) -> None:
    make(folder, "q.gguf", request_for(folder, moments="h"))
    watcher = Watcher()
    request = QuantizeRequest("Q4_0", "awq", imatrix=folder / "h" / "imatrix.gguf", n_threads=1)
    made = make(folder, "awq.gguf", request, watcher)
    assert watcher.n_read == 0 and scaled_norms(made.path)


def test_folds_do_not_depend_on_the_threads(folder: Path) -> None:
    one = make(folder, "one.gguf", request_for(folder, method="awq+gptq", moments="h"))
    two = make(folder, "two.gguf", request_for(folder, method="awq+gptq", n_threads=2, moments="h"))
    assert one.path.read_bytes() == two.path.read_bytes()


def test_folds_go_with_a_size_and_given_types(folder: Path) -> None:
    given = MixOptions(tensor_types=((re.compile("attn_v"), GGML_TYPES_BY_NAME["q8_0"]),))
    n_params = sum(tensor.n_params for tensor in read_header(folder / "tiny.gguf").tensors)
    request = request_for(folder, method="awq", options=given, budget=Budget(n_bytes=int(n_params * 7 / 8)))
    made = make(folder, "q.gguf", request)
    assert made.n_bytes == made.path.stat().st_size <= int(n_params * 7 / 8)
    assert rows_of(made.path)["blk.0.attn_v.weight"][0] == "q8_0"
    assert scaled_norms(made.path)


def test_experts_are_folded(tmp_path: Path) -> None:
    write_tiny_moe(tmp_path / "tiny.gguf")
    (tmp_path / "text.txt").write_text(TEXT)
    made = make(tmp_path, "q.gguf", request_for(tmp_path, method="awq+gptq"))
    assert scaled_norms(made.path)


def test_a_graph_that_is_not_known_is_only_rounded(folder: Path) -> None:
    path = Skeleton(arch="falcon").write(folder / "falcon.gguf")
    importance = Skeleton(arch="falcon").importance()
    write_imatrix(folder / "i.gguf", as_imatrix(importance))
    watcher = Watcher()
    for method in ("awq", "rtn"):
        request = QuantizeRequest("Q4_0", method, imatrix=folder / "i.gguf", n_threads=1)
        quantize_file(path, folder / f"{method}.gguf", request, watcher)
    assert len(watcher.reasons) == 1 and "falcon" in watcher.reasons[0]
    assert (folder / "awq.gguf").read_bytes() == (folder / "rtn.gguf").read_bytes()
