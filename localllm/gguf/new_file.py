"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from localllm.errors import LocalLLMError, NotEnoughDisk, RequestError
from localllm.gguf.problems import printable
from localllm.partial_files import PARTIAL, claim, remove_abandoned, sync_folder, unlink

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk says that is full, a user who has no more of it, and a file system whose files end here (FAT: 4 GiB)."""
_MORE_ROOM = "Free some room, or write to another disk."


@contextmanager
def new_file(path: Path, n_bytes: int = 0) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name beside `path`; without an error it then takes that name.

    After an error, also Ctrl-C, the temporary file is deleted, and what was at `path` before is still there. What a
    killed process left is deleted by the next one that makes the same file.

    Args:
        path: the file to make; one that is there is replaced.
        n_bytes: how long it will be, to find out at once if the disk has no room for it.

    Raises:
        RequestError: the file cannot be made.
        NotEnoughDisk: the disk has no room for it, or became full.
    """
    remove_abandoned(path.absolute().parent, f".{glob.escape(path.name)}.*{PARTIAL}")
    check_room(path, n_bytes)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            claim(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.absolute().parent)
    except LocalLLMError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        unlink(partial)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        RequestError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot make {folder}: {error.strerror}.", hint="Check the path.") from error


def check_room(path: Path, n_bytes: int) -> None:
    """Refuse now what would fail after all the work: a name that cannot be written, a disk without room.

    Raises:
        RequestError: `path` is a folder, or in none.
        NotEnoughDisk: its disk has fewer than `n_bytes` free.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise RequestError(
            f"Cannot write {printable(str(path), 200)}: it is a folder, or in none.", hint="Check the path."
        )
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise NotEnoughDisk(
            f"{printable(path.name, 200)} takes {n_bytes:,} bytes; the disk has {free:,} free.", hint=_MORE_ROOM
        )


def cannot_write(path: Path, error: OSError) -> LocalLLMError:
    """Return what to say of a file whose writing failed: NotEnoughDisk where the disk is full, else RequestError."""
    message = f"Cannot write {printable(str(path), 200)}: {error.strerror or type(error).__name__}."
    if error.errno in _FULL:
        return NotEnoughDisk(message, hint=_MORE_ROOM)
    return RequestError(message, hint="Check the path and its rights.")
