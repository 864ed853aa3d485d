"""Which weight matrices a model multiplies, and by what: found by asking its graph, so that no architecture is named.

A product has a weight [n_mats, n_rows, n_cols] and its input, activations X [n_tokens, n_cols]. Weights that read the
same activations (q, k and v; gate and up) share one input. A layer of experts has a matrix each, and a router that
sends every token to some of them.

Source: llama.cpp, tools/imatrix/imatrix.cpp, `collect_imatrix`, for what is collected and under which name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from localllm.llama import TensorView

Rows = NDArray[np.float32]
OUTPUT_WEIGHTS = ("output.weight", "token_embd.weight")
"""The output layer, under its own name or that of the embedding that it shares."""
_DENSE, _ROUTED = "MUL_MAT", "MUL_MAT_ID"
_F32 = 0


@dataclass(frozen=True)
class MatrixInput:
    """The activations that one or several weights are multiplied by."""

    weights: tuple[str, ...]
    """Names of the tensors that read it, in the graph's order."""
    n_cols: int
    n_mats: int
    """Matrices in each weight: its experts; else 1."""
    share: float
    """Of the tokens, how many each matrix reads if all read alike: 1, or experts used over experts."""

    @property
    def name(self) -> str:
        """The first weight that reads it."""
        return self.weights[0]


def weight_name(tensor: TensorView, *, with_output: bool) -> str | None:
    """Return the weight that makes a tensor of the graph, or None if none does that is quantized by its input.

    Args:
        tensor: any node.
        with_output: take the output layer, too.
    """
    if tensor.op not in (_DENSE, _ROUTED):
        return None
    weight, x = tensor.source(0), tensor.source(1)
    if weight is None or x is None or x.type_id != _F32:
        return None
    name = plain_name(weight.name)
    in_block = name.startswith("blk.") and name.endswith(".weight")
    return name if in_block or (with_output and name in OUTPUT_WEIGHTS) else None


def plain_name(name: str) -> str:
    """Return a weight's name in the file: a copy on another device is called "CUDA0#blk.0.attn_k.weight#0"."""
    return name.split("#")[1] if "#" in name else name


class Survey:
    """Collects the inputs of one graph while it is asked what to show; `wants` belongs into an `EvalCallback`."""

    def __init__(self, *, with_output: bool) -> None:
        self._with_output = with_output
        self._found: dict[tuple[object, ...], MatrixInput] = {}
        self._names: set[str] = set()

    def wants(self, tensor: TensorView) -> bool:
        """Note a product; nothing has to be shown, since shapes and names say it all."""
        name = weight_name(tensor, with_output=self._with_output)
        if name is not None and name not in self._names:
            self._names.add(name)
            self._add(name, tensor)
        return False

    def _add(self, name: str, tensor: TensorView) -> None:
        weight, x, ids = tensor.source(0), tensor.source(1), tensor.source(2)
        assert weight is not None and x is not None, "weight_name has looked"
        is_routed = tensor.op == _ROUTED and ids is not None
        n_mats = weight.shape[2] * weight.shape[3]
        key = (x.place, n_mats, ids.place if is_routed and ids else None)
        known = self._found.get(key)
        if known is not None:
            self._found[key] = replace(known, weights=(*known.weights, name))
            return
        share = ids.shape[0] / n_mats if is_routed and ids else 1.0
        self._found[key] = MatrixInput((name,), x.shape[0], n_mats, share)

    @property
    def inputs(self) -> tuple[MatrixInput, ...]:
        """What was found, in the graph's order: the first layer first."""
        return tuple(self._found.values())


@dataclass
class Seen:
    """The rows of one input that one of its matrices reads, in one micro-batch."""

    source: MatrixInput
    mat: int
    rows: Rows
    """[n_rows, n_cols] float32."""
    squares: NDArray[np.float64] = field(init=False)
    """[n_cols]: the sum of each column's squares. 512 float32 products are added at most before they become float64."""

    def __post_init__(self) -> None:
        self.squares = column_squares(self.rows)


def column_squares(rows: Rows) -> NDArray[np.float64]:
    """Return the sum of squares of each column of [n_rows, n_cols] float32: [n_cols] float64."""
    squares: Rows = np.einsum("ij,ij->j", rows, rows)
    return squares.astype(np.float64)


def seen_rows(tensor: TensorView, source: MatrixInput) -> Iterator[Seen]:
    """Yield what each matrix of a product reads; for experts, only those that read something.

    Args:
        tensor: the product, computed.
        source: its input.
    """
    x = tensor.source(1)
    assert x is not None, "weight_name has looked"
    values = x.read_f32()
    if tensor.op == _ROUTED:
        yield from _routed(tensor, source, values)
    elif source.n_mats == 1:
        yield Seen(source, 0, np.ascontiguousarray(values.reshape(-1, source.n_cols)))
    else:
        for mat in range(source.n_mats):
            own = values.reshape(-1, *values.shape[2:])[mat :: source.n_mats]
            yield Seen(source, mat, np.ascontiguousarray(own.reshape(-1, source.n_cols)))


def _routed(tensor: TensorView, source: MatrixInput, values: Rows) -> Iterator[Seen]:
    """Sort the rows by expert. X is [n_tokens, 1, n_cols] where the experts read one row a token, else each its own."""
    choice = tensor.source(2)
    assert choice is not None, "the operation has three sources"
    ids = choice.read_i32()[0, 0]  # [n_tokens, n_used]
    x = values[0]
    for expert in np.unique(ids):
        token, slot = np.nonzero(ids == expert)
        yield Seen(source, int(expert), x[token, slot % x.shape[1]])
