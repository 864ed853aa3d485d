"""What a model is, as far as making it smaller goes: sizes by type, and what bounds time and memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tui.quantizing.file_types import TYPE_CHOICES

if TYPE_CHECKING:
    from localllm.gguf import GGUFHeader, TensorInfo

_LAYER = re.compile(r"blk\.(\d+)\.(.+)\.weight")
_SAME_INPUT = {"attn_q": "qkv", "attn_k": "qkv", "attn_v": "qkv", "ffn_gate": "up", "ffn_up": "up"}
"""Weights that read the same activations."""
_GRADIENT_BLOCK = 2048
"""Rows of a matrix that make up for each other at a time."""


@dataclass(frozen=True)
class Prospect:
    """A model that may be made smaller."""

    path: Path
    n_params: int
    n_bytes: int
    is_folder: bool = False
    """A Hugging Face folder: sizes are rough."""
    is_quantized: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the file of each type."""
    n_embd: int = 1024
    widest: int = 4096
    """Columns of the widest matrix."""
    moments_bytes: int = 0
    """On the disk, while error feedback is calibrated."""
    gradients_bytes: int = 0


def look(path: Path) -> Prospect:
    """Read what a model is.

    Raises:
        LocalLLMError: it is none.
    """
    return _look_at_folder(path) if path.is_dir() else _look_at_file(path)


def _look_at_file(path: Path) -> Prospect:
    from localllm.gguf import read_header
    from localllm.quantize.file_types import is_quantized

    header = read_header(path)
    n_bytes = sum(tensor.n_bytes for tensor in header.tensors)
    n_head_bytes = max(0, path.stat().st_size - n_bytes) if len(header.parts) == 1 else 0
    sizes, needs = _sizes(header), _needs(header)
    return Prospect(
        path,
        sum(tensor.n_params for tensor in header.tensors),
        n_bytes + n_head_bytes,
        is_quantized=any(is_quantized(tensor.type) for tensor in header.tensors),
        sizes={name: size + n_head_bytes for name, size in sizes.items()},
        n_embd=_n_embd(header),
        widest=needs.widest,
        moments_bytes=needs.moments_bytes,
        gradients_bytes=needs.gradients_bytes,
    )


def _look_at_folder(path: Path) -> Prospect:
    from localllm.errors import RequestError

    weights = list(path.glob("*.safetensors"))
    if not (path / "config.json").is_file() or not weights:
        raise RequestError(
            f"{path.name} is not a model's folder: it has no config.json, or no .safetensors files.",
            hint="Name the folder that holds them.",
        )
    n_bytes = sum(file.stat().st_size for file in weights)
    n_params = n_bytes // 2
    sizes = {choice.name: int(n_params * choice.bpw / 8) for choice in TYPE_CHOICES}
    return Prospect(path, n_params, n_bytes, is_folder=True, sizes=sizes)


def _sizes(header: GGUFHeader) -> dict[str, int]:
    from localllm.errors import LocalLLMError
    from localllm.quantize import file_type, plan_mix

    sizes = {}
    for choice in TYPE_CHOICES:
        try:
            mix = plan_mix(header, file_type(choice.name), has_imatrix=True)
        except LocalLLMError:
            continue
        sizes[choice.name] = mix.n_bytes(header)
    return sizes


def _n_embd(header: GGUFHeader) -> int:
    return next((tensor.shape[0] for tensor in header.tensors if tensor.name == "token_embd.weight"), 1024)


@dataclass(frozen=True)
class _Needs:
    widest: int
    moments_bytes: int
    gradients_bytes: int


def _needs(header: GGUFHeader) -> _Needs:
    """Return what second moments and gradients of all layers take: 4 bytes for each pair of columns, or rows."""
    inputs: dict[tuple[str, str], int] = {}
    gradients = 0
    widest = 0
    for tensor in header.tensors:
        found = _LAYER.fullmatch(tensor.name)
        if found is None or len(tensor.shape) < 2:
            continue
        columns, rows, n_matrices = _matrix(tensor)
        widest = max(widest, columns)
        inputs[found[1], _SAME_INPUT.get(found[2], found[2])] = 4 * columns**2 * n_matrices
        gradients += 4 * n_matrices * (columns**2 + rows * min(rows, _GRADIENT_BLOCK))
    return _Needs(widest, sum(inputs.values()), gradients)


def _matrix(tensor: TensorInfo) -> tuple[int, int, int]:
    columns, rows, *more = tensor.shape
    return columns, rows, more[0] if more else 1
