"""Reading the text files that users name, and replacing those that we keep for them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from localllm.errors import RequestError
from localllm.partial_files import PARTIAL, sync_folder


def read_text(path: Path) -> str:
    """Read a text.

    Raises:
        RequestError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02X}.",
            hint="Give plain text in UTF-8.",
        ) from error


def replace_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replace a file, or make it, at once: whoever reads meanwhile sees the old one or the new one.

    Args:
        path: its folder exists.
        text: written as it is, line ends too.
        mode: who may read it; None: as before, and its owner alone if it is new.

    Raises:
        RequestError: it cannot be written; nothing has changed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        if mode is None:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.chmod(partial, mode)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RequestError(f"Cannot write {path}: {error.strerror}.", hint="Make room, or see who owns it.") from error
