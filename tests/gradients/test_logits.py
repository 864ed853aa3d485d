"""The way forward: logits are llama.cpp's, for every family; what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.errors import UnsupportedModel
from localllm.gguf import GGUFHeader, read_header
from localllm.gradients import Decoder
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.convert.logits import logits_with
from tests.demo_model import require_demo_model
from tests.gradients.conftest import Written
from tests.gradients.tiny_decoders import CASES, Case, write_tiny_decoder
from tests.tiny_recurrent import write_tiny_recurrent


def logits_of(header: GGUFHeader, tokens: np.ndarray) -> np.ndarray:
    decoder = Decoder(header, len(tokens))
    x = decoder.embed(tokens)
    for index in range(decoder.n_layer):
        x = decoder.layer(index).forward(x)
    return decoder.output().logits(x)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_are_llama_cpps(case: Case, written: Written) -> None:
    tokens = np.random.default_rng(1).integers(0, 256, 24)
    header = written(case.name)
    expected = logits_with(header.path, tokens.tolist())
    found = logits_of(header, tokens)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= case.tolerance * np.abs(expected).max()


@pytest.mark.real
def test_logits_of_the_demo_model() -> None:
    header, tokens = read_header(require_demo_model()), np.arange(300, 340)
    expected = logits_with(header.path, tokens.tolist())
    difference = logits_of(header, tokens) - expected
    # llama.cpp rounds what a 4-bit matrix reads to 8 bits; 0.07 was measured.
    assert np.sqrt((difference**2).mean()) <= 0.15 * expected.std()


def test_an_architecture_without_gradients_is_refused(tmp_path: Path) -> None:
    header = read_header(write_tiny_recurrent(tmp_path / "mamba.gguf"))
    with pytest.raises(UnsupportedModel, match=r"mamba\.gguf: gradients of the architecture mamba are not known"):
        Decoder(header, 16)


def test_experts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="gradients of experts") as caught:
        Decoder(read_header(write_tiny_moe(tmp_path / "moe.gguf")), 16)
    assert caught.value.hint == "Calibrate without --kl-aware."


@pytest.mark.parametrize(
    ("case", "what"),
    [
        (Case("yarn", "llama", keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}), "RoPE scaling yarn"),
        (Case("sinks", "llama", norms=("attn_sinks",)), r"blk\.0\.attn_sinks\.weight"),
        (Case("bias", "phi3", is_fused=True, biases=("ffn_down",), vectors={"output.bias": [1.0]}), r"output\.bias"),
        (Case("causal", "llama", keys={"attention.causal": False}), "attention that looks ahead"),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_what_would_be_left_out_is_refused(case: Case, what: str, tmp_path: Path) -> None:
    header = read_header(write_tiny_decoder(tmp_path / "model.gguf", case))
    with pytest.raises(UnsupportedModel, match=f"gradients of (the )?{what} are not known"):
        Decoder(header, 16)


def test_phis_factors_depend_on_the_length_of_a_chunk(written: Written) -> None:
    header = written("phi3-long")
    short, long = (Decoder(header, n_ctx).graph.layers[0].rotation for n_ctx in (512, 513))
    assert short is not None and short.factors[1] == 1.125
    assert long is not None and set(long.factors) == {3.0}
