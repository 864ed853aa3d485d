"""Files that are being written: told from those that a killed process left, and made to last.

A file belongs to the process that holds its lock, which ends with the process, whatever ended it; process ids and
clocks would not tell, in containers or after a reboot. Windows has no such locks, but deletes no file that is open.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"


def claim(file: BinaryIO) -> None:
    """Say that a file is being written, until it is closed."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(root: Path, pattern: str) -> None:
    """Delete what killed processes left half written: files below `root` whose paths match `pattern`."""
    for path in root.glob(pattern):
        if sys.platform == "win32":
            unlink(path)
        else:
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def sync_folder(folder: Path) -> None:
    """Have a rename in this folder survive a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unlink(path: Path) -> bool:
    """Delete a file; False if it is still there."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
