"""Quantizing with the gradients of a model's predictions beside its second moments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import GradientFolder, MomentFolder
from localllm.calibrate.gradients import BOUNDARY_FILE
from localllm.errors import RequestError
from localllm.gguf import GGUFHeader, TensorInfo, read_header
from localllm.gradients import FisherFactors
from localllm.llama import Model
from localllm.llama.encoding import decode
from localllm.quantize import Rtn, Workers, file_type, plan_mix, quantize
from localllm.quantize.gptq import Conditioning, SecondMoments
from localllm.quantize.gptq.two_sided import N_ROWS
from localllm.quantize.gptq_method import Gptq
from localllm.quantize.moments import Factors
from localllm.quantize.pipeline import read_rows
from localllm.quantize.two_sided_method import TwoSidedConditioning, TwoSidedGptq
from localllm.workshop import Knobs
from tests.quantize.gptq.samples import moments
from tests.tiny_model import write_tiny_model
from tests.workshop.test_quantization import TEXT, make, request_for


def weights_of(header: GGUFHeader, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in header.tensors if tensor.name == name)
    return decode(tensor.type.name, read_rows(header, tensor, 0, tensor.shape[1]))


def covered(folder: Path) -> list[TensorInfo]:
    known = MomentFolder.open(folder / "h")
    return [tensor for tensor in read_header(folder / "tiny.gguf").tensors if known.covers(tensor.name)]


def factors(inputs: SecondMoments, outputs: SecondMoments) -> FisherFactors:
    return FisherFactors(inputs.total / inputs.n_tokens, (outputs.total / outputs.n_tokens,), 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that was calibrated, a file made of it by feedback between columns, and gradients of all its weights."""
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text(TEXT)
    make(tmp_path, "one.gguf", request_for(tmp_path, moments="h"))
    gradients = GradientFolder.create(tmp_path / "h" / "gradients", MomentFolder.open(tmp_path / "h").key)
    for seed, tensor in enumerate(covered(tmp_path)):
        n_rows = tensor.shape[1]
        own = MomentFolder.open(tmp_path / "h").second_moments(tensor.name, 0)
        assert own is not None
        outputs = moments(n_rows, rank=max(1, n_rows // 8), seed=seed)
        gradients.write(tensor.name, factors(SecondMoments(own.total, own.n_tokens), outputs))
    return tmp_path


def loss(folder: Path, made: Path) -> float:
    """tr(G E H Eᵀ) over all weights, each in units of its own size."""
    ours, theirs = read_header(folder / "tiny.gguf"), read_header(made)
    gradients = GradientFolder.open(folder / "h" / "gradients")
    total = 0.0
    for tensor in covered(folder):
        found = gradients.gradients(tensor.name)
        weights = weights_of(ours, tensor.name).astype(np.float64)
        error = weights - weights_of(theirs, tensor.name)
        sizes = [np.vdot(found.outputs[0].total @ e, e @ found.inputs.total) for e in (error, weights)]
        total += float(sizes[0] / sizes[1])
    return total


def test_gradients_beside_the_moments_are_used_and_the_file_loads(folder: Path) -> None:
    request = request_for(folder, moments="h")
    made = make(folder, "both.gguf", request)
    assert made.n_bytes == (folder / "one.gguf").stat().st_size
    trusting = Knobs(with_gradients=TwoSidedConditioning(Conditioning(0.1), Conditioning(0.2)))
    believed = make(folder, "believed.gguf", replace(request, knobs=trusting))
    assert loss(folder, believed.path) < 0.9 * loss(folder, folder / "one.gguf")
    assert believed.path.read_bytes() != made.path.read_bytes() != (folder / "one.gguf").read_bytes()
    with Model(made.path) as model:
        assert model.vocab.n_tokens > 0


def test_knobs_leave_out_gradients_and_sinks(folder: Path) -> None:
    request = request_for(folder, moments="h")
    without = make(folder, "without.gguf", replace(request, knobs=Knobs(has_gradients=False)))
    assert without.path.read_bytes() == (folder / "one.gguf").read_bytes()
    plain = make(folder, "plain.gguf", replace(request, knobs=Knobs(has_gradients=False, has_sinks=False)))
    ours, theirs = read_header(plain.path), read_header(without.path)
    names = [tensor.name for tensor in covered(folder)]
    differ = {name.split(".")[2] for name in names if (weights_of(ours, name) != weights_of(theirs, name)).any()}
    assert differ == {"attn_k", "attn_v"}


def test_tensors_without_gradients_are_made_as_without(folder: Path) -> None:
    name = covered(folder)[0].name
    (folder / "h" / "gradients" / f"{name}.npz").unlink()
    made = read_header(make(folder, "q.gguf", request_for(folder, moments="h")).path)
    plain = read_header(folder / "one.gguf")
    other = next(tensor.name for tensor in covered(folder) if tensor.shape[1] > N_ROWS)
    np.testing.assert_array_equal(weights_of(made, name), weights_of(plain, name))
    assert (weights_of(made, other) != weights_of(plain, other)).any()


def test_a_matrix_comes_whole_however_little_memory_there_is(folder: Path) -> None:
    header, known = read_header(folder / "tiny.gguf"), MomentFolder.open(folder / "h")
    mix = plan_mix(header, file_type("Q4_0"), has_imatrix=True)
    made = []
    with Workers(1) as workers:
        plain = Gptq(workers, Factors(known), Rtn(workers))
        for n_bytes in (1, 1 << 28):
            method = TwoSidedGptq(workers, known, GradientFolder.open(folder / "h" / "gradients"), plain)
            path = folder / f"{n_bytes}.gguf"
            quantize(header, path, mix, method, slab_bytes=n_bytes)
            made.append(path.read_bytes())
    assert made[0] == made[1]


def test_gradients_of_another_model_are_refused(folder: Path) -> None:
    path = folder / "h" / "gradients"
    (path / "gradients.json").unlink()
    GradientFolder.create(path, replace(MomentFolder.open(folder / "h").key, model="another"))
    with pytest.raises(RequestError, match="gradients of another model"):
        make(folder, "q.gguf", request_for(folder, moments="h"))
    assert not (folder / "q.gguf").exists()


def test_gradients_of_another_shape_are_refused_by_name(folder: Path) -> None:
    name = covered(folder)[0].name
    GradientFolder.open(folder / "h" / "gradients").write(name, factors(moments(32), moments(16)))
    with pytest.raises(RequestError, match=f"gradients of {name} are of 32 columns and 16 rows"):
        make(folder, "q.gguf", request_for(folder, moments="h"))
    assert not (folder / "q.gguf").exists()


def test_gradients_that_are_nothing_are_refused(folder: Path) -> None:
    tensor = covered(folder)[0]
    nothing = SecondMoments(np.zeros((tensor.shape[0],) * 2, dtype=np.float32), 1)
    path = GradientFolder.open(folder / "h" / "gradients")
    path.write(tensor.name, factors(nothing, moments(tensor.shape[1])))
    with pytest.raises(RequestError, match="all 0"):
        make(folder, "q.gguf", request_for(folder, moments="h"))


def test_gradients_that_are_not_finished_are_not_used(folder: Path) -> None:
    (folder / "h" / "gradients" / BOUNDARY_FILE).write_bytes(b"")
    with pytest.raises(RequestError, match="lacks the gradients of some layers"):
        make(folder, "two.gguf", request_for(folder, moments="h"))
