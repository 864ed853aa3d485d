"""Tensors on their way: large ones come in pieces, and the pieces are the tensor."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.convert import tensors as tensors_module
from localllm.convert.safetensors import StoredTensor, read_tensors
from localllm.convert.tensors import copied, stacked, transposed
from localllm.convert.types import encode, tensor_type
from localllm.gguf import GGML_TYPES_BY_NAME
from tests.convert.checkpoints import safetensors_bytes

MATRIX = np.random.default_rng(0).standard_normal((50, 32)).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> StoredTensor:
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes({"a": MATRIX}))
    return read_tensors(tmp_path / "m.safetensors")["a"]


@pytest.mark.parametrize("n_items", [1, 100, 160, 10**6])
def test_no_piece_is_larger_than_allowed(stored: StoredTensor, n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors_module, "PIECE_ITEMS", n_items)
    pieces = list(copied("a", stored).pieces())
    assert all(piece.size <= max(n_items, 32) for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), MATRIX)


def test_stack_and_transpose_have_the_shapes_they_say(stored: StoredTensor) -> None:
    stack, turned = stacked("s", [stored, stored]), transposed("t", stored)
    assert stack.shape == (2, 50, 32) and turned.shape == (32, 50)
    np.testing.assert_array_equal(np.stack(list(stack.pieces())), [MATRIX, MATRIX])
    np.testing.assert_array_equal(next(turned.pieces()), MATRIX.T)


@pytest.mark.parametrize(
    ("name", "shape", "wanted", "expected"),
    [
        ("blk.0.ffn_up.weight", (8, 64), "q8_0", "q8_0"),
        ("blk.0.ffn_up.weight", (8, 60), "q8_0", "f16"),
        ("blk.0.ffn_up_exps.weight", (4, 8, 64), "bf16", "bf16"),
        ("blk.0.ffn_gate_inp.weight", (4, 64), "q8_0", "f32"),
        ("position_embd.weight", (128, 64), "f16", "f32"),
        ("token_types.weight", (2, 64), "f16", "f32"),
        ("blk.0.attn_q.bias", (64,), "bf16", "f32"),
        ("output_norm.weight", (64,), "q8_0", "f32"),
    ],
)
def test_type_of_a_tensor(name: str, shape: tuple[int, ...], wanted: str, expected: str) -> None:
    assert tensor_type(name, shape, wanted).name == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_pieces_are_encoded_as_the_whole_would_be(stored: StoredTensor, kind: str) -> None:
    ggml_type = GGML_TYPES_BY_NAME[kind]
    joined = b"".join(encode("a", piece, ggml_type).tobytes() for piece in stored.rows(7))
    whole = gguf.quantize(MATRIX, gguf.GGMLQuantizationType(ggml_type.id))
    assert joined == whole.tobytes() and len(joined) == ggml_type.n_bytes(MATRIX.size)


def test_transposed_matrix_is_encoded_in_its_own_order(stored: StoredTensor) -> None:
    turned = next(transposed("t", stored).pieces())
    assert encode("t", turned, GGML_TYPES_BY_NAME["f32"]).tobytes() == np.ascontiguousarray(MATRIX.T).tobytes()
