"""Opening a file to read its header: what the system refuses, and what is plainly another format."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localllm.errors import InvalidModelFile, ModelNotFound
from localllm.gguf.problems import CONVERT, TRUNCATED, invalid, printable

MAGIC = b"GGUF"
MAX_HEADER_BYTES = 256 << 20
"""Bytes at the start of a file that are read at all. The largest published headers take some 30 MB."""

_NOT_FOUND_HINT = "Check the spelling, or list the models on this computer with `localllm list`."
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself",
     "Fetch the real file with `git lfs pull`, or download it from the model's page."),
    (b"<", "a web page, not a model", "Download it again; the page may ask for a login or for its terms."),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?), not a GGUF file", CONVERT),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?), not a GGUF file", CONVERT),
    (b"\x89HDF", "an HDF5 file (a Keras checkpoint?), not a GGUF file", CONVERT),
    (b"lmgg", "a GGML file, the format that GGUF replaced in 2023", CONVERT),
    (b"fmgg", "a GGMF file, the format that GGUF replaced in 2023", CONVERT),
    (b"tjgg", "a GGJT file, the format that GGUF replaced in 2023", CONVERT),
    (b"algg", "a GGLA adapter, the format that GGUF replaced in 2023", CONVERT),
)  # fmt: skip


@contextmanager
def mapped(path: Path) -> Iterator[tuple[mmap.mmap, int]]:
    """Map the start of a file, for reading.

    Args:
        path: the file.

    Yields:
        The map, of at most `MAX_HEADER_BYTES`, and the file's own length in bytes.

    Raises:
        ModelNotFound: there is no such file.
        InvalidModelFile: it is not a regular file, is empty, may not be read, or is not a GGUF file.
    """
    try:
        n_bytes = _regular_file_bytes(path)
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), min(n_bytes, MAX_HEADER_BYTES), access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    with data:
        _check_magic(path, data)
        yield data, n_bytes


def read_bytes(path: Path, offset: int, n_bytes: int) -> bytes:
    """Read part of a file whose header was read before.

    Raises:
        ModelNotFound: the file is gone.
        InvalidModelFile: it may not be read, or has become shorter.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(n_bytes)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    if len(data) < n_bytes:
        raise invalid(path, f"has become shorter since it was opened: no byte {offset + n_bytes:,}", TRUNCATED)
    return data


def _regular_file_bytes(path: Path) -> int:
    # Before open(): opening a named pipe would wait for a writer for ever.
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise invalid(path, "is a folder, not a GGUF file", "Give the path of one .gguf file.")
    if not stat.S_ISREG(status.st_mode):
        raise invalid(path, "is not a regular file", "Give the path of one .gguf file.")
    if status.st_size == 0:
        raise invalid(path, "is empty (0 bytes)", TRUNCATED)
    return status.st_size


def _refused(path: Path, error: OSError | ValueError) -> ModelNotFound | InvalidModelFile:
    if isinstance(error, PermissionError):
        return invalid(path, "may not be read: permission denied", "Give yourself the right to read the file.")
    if isinstance(error, (FileNotFoundError, NotADirectoryError, ValueError)):
        return ModelNotFound(f"No such file: {printable(str(path), 200)}", hint=_NOT_FOUND_HINT)
    reason = error.strerror or type(error).__name__
    return invalid(path, f"cannot be read: {reason}", "Check the disk, and that the path is right.")


def _check_magic(path: Path, data: mmap.mmap) -> None:
    start = data[:64]
    if start.startswith(MAGIC):
        return
    if MAGIC.startswith(start):
        raise invalid(path, f"is truncated: {len(start)} bytes, and the header alone takes 24", TRUNCATED)
    for magic, what, hint in _OTHER_FORMATS:
        if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(magic):
            raise invalid(path, f"is {what}", hint)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < MAX_HEADER_BYTES:
        raise invalid(path, "is a safetensors file, not a GGUF file", CONVERT)
    raise invalid(path, f"is not a GGUF file: it starts with {start[:4]!r} where b'GGUF' belongs", CONVERT)
