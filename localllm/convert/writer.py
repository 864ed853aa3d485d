"""Writing a GGUF file piece by piece: one tensor in memory at most, and nothing under its name before it is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from gguf.gguf_writer import WriterState

from localllm.convert.tensors import OutputTensor
from localllm.convert.types import OutputType, encode, tensor_type
from localllm.errors import InvalidCheckpoint
from localllm.gguf import GGMLType
from localllm.gguf.new_file import new_file

OnProgress = Callable[[int, int], None]
"""Called with the bytes of weights that are written, and all there will be."""


def write_gguf(
    path: Path,
    architecture: str,
    tensors: Sequence[OutputTensor],
    wanted: OutputType,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    check: Callable[[Path], object],
    on_progress: OnProgress,
) -> int:
    """Write a GGUF file, which takes its name when it is whole, and return its size in bytes.

    Args:
        path: where; a file that is there is replaced.
        architecture: llama.cpp's name.
        tensors: what it holds, in this order.
        wanted: the type of its matrices.
        add_metadata: writes everything else.
        check: looks at the whole file under its temporary name; what it raises keeps it from taking its own.
        on_progress: called after each piece.

    Raises:
        NotEnoughDisk: it does not fit.
        InvalidCheckpoint: a weight is no finite number.
        RequestError: a weight is beyond what the type can hold, or the file cannot be written.
    """
    writer = gguf.GGUFWriter(None, architecture)
    kinds = [tensor_type(tensor.name, tensor.shape, wanted) for tensor in tensors]
    sizes = [kind.n_bytes(tensor.n_items) for tensor, kind in zip(tensors, kinds, strict=True)]
    for tensor, kind, n_bytes in zip(tensors, kinds, sizes, strict=True):
        raw = gguf.GGMLQuantizationType(kind.id)
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), n_bytes, raw)
    add_metadata(writer)
    with new_file(path, sum(sizes)) as file:
        _write_head(writer, file)
        _write_weights(writer, file, tensors, kinds, lambda n_done: on_progress(n_done, sum(sizes)))
        file.flush()
        check(Path(file.name))
        return file.tell()


def _write_head(writer: gguf.GGUFWriter, file: BinaryIO) -> None:
    """Have the writer write to a file that is open already, as it takes one that it has opened itself."""
    writer.fout, writer.state = [file], WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _write_weights(
    writer: gguf.GGUFWriter,
    file: BinaryIO,
    tensors: Sequence[OutputTensor],
    kinds: Sequence[GGMLType],
    on_progress: Callable[[int], None],
) -> None:
    n_done = 0
    for tensor, kind in zip(tensors, kinds, strict=True):
        writer.write_padding(file, file.tell())
        for piece in tensor.pieces():
            if not np.isfinite(piece).all():
                raise _not_finite(tensor.name)
            n_done += file.write(encode(tensor.name, piece, kind).data)
            on_progress(n_done)
    writer.write_padding(file, file.tell())


def _not_finite(name: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"Tensor {name} has a weight that is infinite or no number (NaN).",
        hint="The checkpoint is damaged, or its training failed: download it again or choose another.",
    )
