"""Writing a GGUF file piece by piece: one tensor in memory at most, and nothing under its name before it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import psutil

from localllm.convert.tensors import OutputTensor
from localllm.convert.types import OutputType, encode, tensor_type
from localllm.errors import InvalidCheckpoint, NotEnoughDisk, RequestError

PARTIAL = ".partial"
OnProgress = Callable[[int, int], None]
"""Called with the bytes of weights that are written, and all there will be."""
_GIB = 1 << 30
_PID_DIGITS = 9


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write to, and move it there at the end; after an exception nothing is left.

    The name holds this process's id, so that what a killed one left is told from what another one is writing.

    Raises:
        RequestError: the target is a folder, or in none.
        NotEnoughDisk: the disk became full.
    """
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise RequestError(f"Cannot write {target}: it is a directory, or in none.", hint="Check the path.")
    _remove_abandoned(target)
    partial = target.with_name(f"{target.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        _make_last(partial)
        os.replace(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughDisk(
                f"The disk of {target} is full.", hint="Free some room, or choose a smaller --type or another disk."
            ) from error
        raise RequestError(f"Cannot write {target}: {error.strerror}.", hint="Check the path.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _remove_abandoned(target: Path) -> None:
    for path in target.parent.glob(f"{escape(target.name)}.*{PARTIAL}"):
        id = path.name.removeprefix(f"{target.name}.").removesuffix(PARTIAL)
        if id.isdecimal() and len(id) <= _PID_DIGITS and not psutil.pid_exists(int(id)):
            with contextlib.suppress(OSError):
                path.unlink()


def _make_last(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_gguf(
    path: Path,
    architecture: str,
    tensors: Sequence[OutputTensor],
    wanted: OutputType,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    on_progress: OnProgress,
) -> int:
    """Write a GGUF file and return its size in bytes.

    Args:
        path: where; it is overwritten.
        architecture: llama.cpp's name.
        tensors: what it holds, in this order.
        wanted: the type of its matrices.
        add_metadata: writes everything else.
        on_progress: called after each piece.

    Raises:
        NotEnoughDisk: it will not fit.
        InvalidCheckpoint: a weight is no finite number.
        RequestError: a weight is beyond what the type can hold.
    """
    writer = gguf.GGUFWriter(None, architecture)
    kinds = [tensor_type(tensor.name, tensor.shape, wanted) for tensor in tensors]
    sizes = [kind.n_bytes(tensor.n_items) for tensor, kind in zip(tensors, kinds, strict=True)]
    for tensor, kind, n_bytes in zip(tensors, kinds, sizes, strict=True):
        raw = gguf.GGMLQuantizationType(kind.id)
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), n_bytes, raw)
    add_metadata(writer)
    n_total = sum(sizes)
    _check_room(path, n_total)
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None, "the writer has opened its file"
        file: BinaryIO = writer.fout[0]
        n_done = 0
        for tensor, kind in zip(tensors, kinds, strict=True):
            writer.write_padding(file, file.tell())
            for piece in tensor.pieces():
                if not np.isfinite(piece).all():
                    raise _not_finite(tensor.name)
                n_done += file.write(encode(tensor.name, piece, kind).data)
                on_progress(n_done, n_total)
        writer.write_padding(file, file.tell())
        return file.tell()
    finally:
        writer.close()


def _check_room(path: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.absolute().parent).free
    if n_bytes > free:
        raise NotEnoughDisk(
            f"The file will take {n_bytes / _GIB:.2f} GiB, and {free / _GIB:.2f} GiB are free.",
            hint="Free some room, or choose a smaller --type or another disk.",
        )


def _not_finite(name: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"Tensor {name} has a weight that is infinite or no number (NaN).",
        hint="The checkpoint is damaged, or its training failed: download it again or choose another.",
    )
