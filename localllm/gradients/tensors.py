"""A model file's tensors as arrays of floats, read when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from localllm.gguf import GGUFHeader, TensorInfo
from localllm.gguf.problems import invalid, quoted
from localllm.llama.encoding import decode
from localllm.quantize.pipeline import read_rows

Array = NDArray[np.floating[Any]]


class TensorReader:
    """Reads tensors of any type that ggml decodes.

    Args:
        header: the model's.
        dtype: of the arrays; float32, or float64 to check derivatives.
    """

    def __init__(self, header: GGUFHeader, dtype: DTypeLike = np.float32) -> None:
        self.header = header
        self.dtype = np.dtype(dtype)
        self._tensors = {tensor.name: tensor for tensor in header.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def info(self, name: str) -> TensorInfo:
        """Return what the header says of a tensor.

        Raises:
            InvalidModelFile: it is not there.
        """
        try:
            return self._tensors[name]
        except KeyError:
            raise invalid(self.header.path, f"has no tensor {quoted(name)}") from None

    def read(self, name: str) -> Array:
        """Return a whole tensor: a matrix [n_out, n_in], or a vector [n].

        Raises:
            InvalidModelFile: there is no such tensor, or the file has changed since its header was read.
            ModelNotFound: the file is gone.
        """
        tensor = self.info(name)
        n_in, *rest = tensor.shape
        stored = read_rows(self.header, tensor, 0, tensor.n_params // n_in)
        return decode(tensor.type.name, stored).reshape(*reversed(rest), n_in).astype(self.dtype, copy=False)

    def read_some_rows(self, name: str, rows: NDArray[np.integer[Any]]) -> Array:
        """Return rows of a matrix, by their numbers: [len(rows), n_in].

        Raises:
            InvalidModelFile: there is no such tensor, or the file has changed since its header was read.
            ModelNotFound: the file is gone.
        """
        tensor = self.info(name)
        wanted, where = np.unique(rows, return_inverse=True)
        stored = np.concatenate([read_rows(self.header, tensor, int(row), 1) for row in wanted])
        return decode(tensor.type.name, stored)[where].astype(self.dtype, copy=False)
