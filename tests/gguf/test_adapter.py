"""Which files are LoRA adapters of the tiny model, and which are refused, with what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.errors import InvalidModelFile, ModelError, UnsupportedModel
from localllm.gguf import ModelShape, check_adapter, read_header
from tests.tiny_adapter import matrices, pair, write_tiny_adapter
from tests.tiny_model import vocabulary, write_tiny_model

N_VOCAB = len(vocabulary())
Q = "blk.0.attn_q.weight"


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("adapters") / "tiny.gguf")


def check(model_path: Path, path: Path) -> Any:
    return check_adapter(read_header(path), read_header(model_path), 2)


def test_adapter_is_counted_beside_what_it_adapts(model_path: Path, tmp_path: Path) -> None:
    shapes = {**matrices(rank=4), "token_embd.weight": ((N_VOCAB, 4), (64, 4)), "output.weight": pair(64, N_VOCAB, 4)}
    path = write_tiny_adapter(tmp_path / "a.gguf", shapes=shapes)
    weights = check(model_path, path).weights
    in_layer = 4 * 4 * ((64 + 64) + 2 * (64 + 32) + (128 + 64))
    assert weights.layer_bytes == (in_layer, in_layer)
    assert weights.token_embd_bytes == weights.output_bytes == 4 * 4 * (N_VOCAB + 64)
    shape = ModelShape.from_header(read_header(model_path))
    both = shape.with_adapters([weights, weights])
    assert both.weights_bytes == shape.weights_bytes + 2 * weights.n_bytes
    assert both.layer_bytes == tuple(n + 2 * in_layer for n in shape.layer_bytes)
    assert shape.with_adapters([]) == shape


def test_trained_norms_are_counted_as_ignored(model_path: Path, tmp_path: Path) -> None:
    path = write_tiny_adapter(tmp_path / "a.gguf", extra_tensors=["blk.0.attn_norm.weight", "output_norm.weight"])
    assert check(model_path, path).n_ignored == 2


BAD: dict[str, tuple[dict[str, Any], type[ModelError], str]] = {
    "a model": ({"kind": "model"}, InvalidModelFile, "not a LoRA adapter but a model"),
    "of another kind": ({"adapter_type": "dora"}, InvalidModelFile, "of type 'dora'"),
    "architecture": ({"arch": "qwen2"}, InvalidModelFile, "is for qwen2 models, and this one is llama"),
    "alpha": ({"alpha": float("nan")}, InvalidModelFile, "alpha is nan"),
    "nothing": ({"shapes": {}}, InvalidModelFile, "adapts nothing"),
    "half": ({"omit": [f"{Q}.lora_b"]}, InvalidModelFile, f"only one half of the adapter of '{Q}'"),
    "stranger": ({"extra_tensors": ["blk.0.x"]}, InvalidModelFile, "'blk.0.x' is no part of"),
    "unknown matrix": ({"shapes": {"blk.9.attn_q.weight": pair(64, 64, 4)}}, InvalidModelFile, "does not have"),
    "width": ({"shapes": matrices(n_embd=32)}, InvalidModelFile, "32 × 4 and 4 × 64, where .* needs 64 × 4 and 4 × 64"),
    "rows": ({"shapes": matrices(n_q=128)}, InvalidModelFile, "4 × 128"),
    "ranks differ": ({"shapes": {Q: ((3, 64), (64, 4))}}, InvalidModelFile, "64 × 3 and 4 × 64"),
    "experts": ({"shapes": {Q: ((2, 4, 64), (2, 64, 4))}}, InvalidModelFile, "64 × 4 × 2"),
    "norm": ({"shapes": {"output_norm.weight": pair(64, 1, 4)}}, InvalidModelFile, "is no matrix"),
    "integers": ({"dtype": np.int32}, InvalidModelFile, "type i32"),
    "embedding": ({"shapes": {"token_embd.weight": pair(64, N_VOCAB, 4)}}, InvalidModelFile, "token_embd"),
    "activated": ({"extra": {"adapter.alora.invocation_tokens": [1, 2]}}, UnsupportedModel, "activated LoRA"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_adapter_is_refused_with_the_reason(model_path: Path, tmp_path: Path, case: str) -> None:
    arguments, kind, message = BAD[case]
    path = write_tiny_adapter(tmp_path / "bad.gguf", **arguments)
    with pytest.raises(kind, match=message) as caught:
        check(model_path, path)
    assert str(caught.value).startswith("bad.gguf: ") and caught.value.hint


@pytest.mark.parametrize("key", ["general.type", "adapter.type", "adapter.lora.alpha"])
def test_value_of_another_type_is_refused(model_path: Path, tmp_path: Path, key: str) -> None:
    path = write_tiny_adapter(tmp_path / "a.gguf", extra={"x" * len(key): 1})
    renamed = path.read_bytes().replace(key.encode(), b"y" * len(key)).replace(b"x" * len(key), key.encode())
    path.write_bytes(renamed)
    with pytest.raises(InvalidModelFile, match=rf"{re.escape(key)} is of type u32"):
        check(model_path, path)


def test_embedding_of_a_model_whose_output_is_tied_to_it_is_refused(tmp_path: Path) -> None:
    model_path = write_tiny_model(tmp_path / "m.gguf")
    model_path.write_bytes(model_path.read_bytes().replace(b"output.weight", b"outpux.weight"))
    path = write_tiny_adapter(tmp_path / "a.gguf", shapes={"token_embd.weight": ((N_VOCAB, 4), (64, 4))})
    with pytest.raises(UnsupportedModel, match="token embedding"):
        check(model_path, path)


def test_every_cut_and_flipped_byte_is_an_error_or_an_adapter(model_path: Path, tmp_path: Path) -> None:
    whole = write_tiny_adapter(tmp_path / "a.gguf").read_bytes()
    path = tmp_path / "b.gguf"
    rng = np.random.default_rng(0)
    hints = []
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        else:
            data[rng.integers(2000)] = rng.integers(256)
        path.write_bytes(data)
        try:
            check(model_path, path)
        except ModelError as error:
            hints.append(error.hint)
    assert len(hints) > 100 and all(hints)


def test_a_model_whose_channels_were_scaled_takes_no_adapter(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf", extra={"quantize.awq": True})
    with pytest.raises(UnsupportedModel, match="channels AWQ has scaled") as caught:
        check(model, write_tiny_adapter(tmp_path / "a.gguf"))
    assert caught.value.hint is not None and "--method" in caught.value.hint
