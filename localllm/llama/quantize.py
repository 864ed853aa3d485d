"""llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelError
from localllm.llama.library import first_log_error, last_log_errors, library, path_bytes


@dataclass(frozen=True)
class QuantizeParams:
    """What to make of a GGUF file."""

    ftype: int
    """llama.cpp's file type number, such as 15 for Q4_K_M."""
    n_threads: int = 0
    """0: as many as the machine has."""
    allow_requantize: bool = False
    pure: bool = False
    """One type for all tensors, instead of the file type's mix."""
    imatrix: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Tensor name to the importance of its input columns: [n_cols] float32, or [n_expert * n_cols]."""
    prune_layers: tuple[int, ...] = ()
    output_type: int | None = None
    """ggml's number of the type of output.weight, or of a token embedding that is the output layer too."""
    embedding_type: int | None = None
    """ggml's number of the token embedding's type."""
    tensor_types: Mapping[str, int] = field(default_factory=dict)
    """ggml's number of the type of tensors in whose name a regular expression is found; the first one counts."""


def quantize_model(source: Path, target: Path, params: QuantizeParams) -> None:
    """Write `source` to `target` with llama.cpp's quantizer.

    Raises:
        ModelError: llama.cpp refused; the message gives its reason.
    """
    lib = library()
    c = lib.llama_model_quantize_default_params()
    c.ftype = params.ftype
    c.nthread = params.n_threads
    c.allow_requantize = params.allow_requantize
    c.pure = params.pure
    imatrix = _imatrix_array(params.imatrix)
    if imatrix is not None:
        c.imatrix = imatrix
    if params.prune_layers:
        layers = (ctypes.c_int32 * (len(params.prune_layers) + 1))(*params.prune_layers, -1)
        c.prune_layers = layers
    if params.output_type is not None:
        c.output_tensor_type = params.output_type
    if params.embedding_type is not None:
        c.token_embedding_type = params.embedding_type
    if params.tensor_types:
        pairs = [(pattern.encode(), type_id) for pattern, type_id in params.tensor_types.items()]
        c.tt_overrides = (lib.llama_model_tensor_override * (len(pairs) + 1))(*pairs)
    last_log_errors(clear=True)
    if lib.llama_model_quantize(path_bytes(source), path_bytes(target), ctypes.byref(c)) != 0:
        reason = first_log_error()
        raise ModelError(f"llama.cpp cannot quantize {source.name}: {reason}", hint="Check the source file and type.")


def _imatrix_array(imatrix: Mapping[str, NDArray[np.float32]]) -> Any:
    """Return the C array of entries, ended by an empty one, or None. ctypes keeps no NumPy array alive: copy each."""
    if not imatrix:
        return None
    entries = (library().llama_model_imatrix_data * (len(imatrix) + 1))()
    for entry, (name, data) in zip(entries, imatrix.items(), strict=False):
        entry.name = name.encode()
        values = np.ascontiguousarray(data, dtype=np.float32)
        entry.data = (ctypes.c_float * values.size).from_buffer_copy(values.tobytes())
        entry.size = data.size
    return entries
