"""From a model's file to a quantized one: tensor by tensor, some rows at a time, in bounded memory.

What the rows become is the method's business. The same source, mix and method give the same bytes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelError
from localllm.gguf import GGMLType, GGUFHeader, TensorInfo, printable
from localllm.gguf.new_file import new_file
from localllm.gguf.source import read_bytes
from localllm.gguf.writing import TensorSpec, head_bytes, padding
from localllm.llama.encoding import decode, encode, is_finite
from localllm.quantize.categories import trimmed_shape
from localllm.quantize.file_types import is_quantized
from localllm.quantize.metadata import output_pairs
from localllm.quantize.method import Encoder, Method
from localllm.quantize.mix import Mix

SLAB_BYTES = 256 << 20
"""Of float32 rows that are in memory at once."""
_DAMAGED = "The source file is damaged, or not a model's weights. Download or convert it again."


@dataclass(frozen=True)
class Progress:
    """How far a run is, told after each slab of rows."""

    tensor: str
    n_done: int
    """Weights."""
    n_total: int
    elapsed_s: float

    @property
    def share(self) -> float:
        """0.0 to 1.0."""
        return self.n_done / self.n_total

    @property
    def left_s(self) -> float:
        """Seconds left, if the rest takes as long per weight."""
        return self.elapsed_s / self.n_done * (self.n_total - self.n_done)


@dataclass(frozen=True)
class Quantized:
    """What was made."""

    path: Path
    n_bytes: int
    n_params: int
    elapsed_s: float

    @property
    def bpw(self) -> float:
        """Bits of the file, its header included, per weight."""
        return 8 * self.n_bytes / self.n_params


def quantize(
    header: GGUFHeader,
    target: Path,
    mix: Mix,
    method: Method,
    *,
    more_pairs: Sequence[tuple[str, bytes]] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    slab_bytes: int = SLAB_BYTES,
) -> Quantized:
    """Make a quantized model.

    The file is written under a temporary name, so a failure or Ctrl-C leaves nothing under `target`.

    Args:
        header: the source's, as `read_header` returns it; split models become one file.
        target: the file to make; one that is there is replaced.
        mix: the type of each tensor; see `localllm.quantize.checks` for what should be checked before.
        method: how rows become blocks of a quantized type. Other types are converted without it.
        more_pairs: keys and pairs to add to the metadata.
        on_progress: called often, on this thread.
        slab_bytes: float32 rows in memory at once, in bytes; the method may take as much again.

    Raises:
        RequestError: the file cannot be written.
        NotEnoughDisk: the disk has no room for it.
        ModelError: weights are NaN or infinite, or cannot be encoded; the message names the tensor.
    """
    tensors = {tensor.name: tensor for tensor in header.tensors}
    head, specs, n_bytes = _layout(header, mix, more_pairs)
    clock = _Clock(on_progress, sum(tensor.n_params for tensor in header.tensors))
    with new_file(target, n_bytes) as file:
        file.write(head)
        for spec in specs:
            _write_tensor(file, header, tensors[spec.name], spec.type, method, slab_bytes, clock)
            file.write(padding(spec.n_bytes, header.alignment))
    return Quantized(target, n_bytes, clock.n_total, clock.elapsed_s)


def file_bytes(header: GGUFHeader, mix: Mix, more_pairs: Sequence[tuple[str, bytes]] = ()) -> int:
    """Return the size of the file that `quantize` would make."""
    return _layout(header, mix, more_pairs)[2]


def _layout(
    header: GGUFHeader, mix: Mix, more_pairs: Sequence[tuple[str, bytes]]
) -> tuple[bytes, list[TensorSpec], int]:
    """Return the file's head, its tensors in order, and its size."""
    tensors = {tensor.name: tensor for tensor in header.tensors}
    specs = [TensorSpec(name, trimmed_shape(tensors[name].shape), kind) for name, kind in mix.types.items()]
    head = head_bytes(output_pairs(header, mix.file_type, more_pairs), specs, header.alignment)
    return head, specs, len(head) + sum(spec.n_bytes + len(padding(spec.n_bytes, header.alignment)) for spec in specs)


class _Clock:
    """Counts weights and seconds."""

    def __init__(self, tell: Callable[[Progress], None], n_total: int) -> None:
        self._tell = tell
        self._start = time.monotonic()
        self._n_done = 0
        self.n_total = n_total

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def add(self, tensor: str, n_weights: int) -> None:
        self._n_done += n_weights
        self._tell(Progress(tensor, self._n_done, self.n_total, self.elapsed_s))


def _write_tensor(
    file: BinaryIO,
    header: GGUFHeader,
    tensor: TensorInfo,
    kind: GGMLType,
    method: Method,
    slab_bytes: int,
    clock: _Clock,
) -> None:
    encoder = _encoder(tensor, kind, method)
    if encoder is not None and method.needs_whole_matrices:
        slab_bytes = sys.maxsize
    for matrix, first, n_rows in _slabs(tensor.shape, slab_bytes):
        stored = read_rows(header, tensor, first, n_rows)
        try:
            coded = stored if encoder is None else encoder(decode(tensor.type.name, stored), matrix)
        except ModelError as error:
            raise _named(header, tensor, error.message, error.hint) from error
        if encoder is None and not is_finite(kind.name, stored):
            raise _named(header, tensor, "Weights are NaN or infinite.", _DAMAGED)
        assert coded.shape == (n_rows, kind.n_bytes(tensor.shape[0])), "a method encodes all rows, as the type has it"
        file.write(np.ascontiguousarray(coded).data)
        clock.add(tensor.name, n_rows * tensor.shape[0])


def _encoder(tensor: TensorInfo, kind: GGMLType, method: Method) -> Encoder | None:
    """Return how a tensor's rows are converted; None where its type stays."""
    if kind is tensor.type:
        return None
    return method.begin(tensor, kind) if is_quantized(kind) else lambda rows, _: encode(kind.name, rows)


def _slabs(shape: tuple[int, ...], slab_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield which matrix, from which row of the tensor, and how many rows; none crosses into another matrix."""
    n_cols, n_rows, *rest = (*shape, 1)
    step = max(1, slab_bytes // (4 * n_cols))
    for matrix in range(math.prod(rest)):
        for first in range(0, n_rows, step):
            yield matrix, matrix * n_rows + first, min(step, n_rows - first)


def read_rows(header: GGUFHeader, tensor: TensorInfo, first: int, n_rows: int) -> NDArray[np.uint8]:
    """Read rows of a tensor as they are stored: [n_rows, row_bytes] uint8.

    Raises:
        InvalidModelFile: the file has become shorter since its header was read.
        ModelNotFound: the file is gone.
    """
    row_bytes = tensor.type.n_bytes(tensor.shape[0])
    data = read_bytes(header.parts[tensor.part], tensor.offset + first * row_bytes, n_rows * row_bytes)
    return np.frombuffer(data, dtype=np.uint8).reshape(n_rows, row_bytes)


def _named(header: GGUFHeader, tensor: TensorInfo, problem: str, hint: str | None) -> ModelError:
    return ModelError(f"{printable(header.path.name, 200)}, {printable(tensor.name)}: {problem}", hint=hint)
