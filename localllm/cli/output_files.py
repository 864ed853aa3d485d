"""Files of results that flags name: refused before the work if they cannot be written."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import RequestError

STDOUT = "-"


def check_writable(path: str | Path | None, flag: str) -> None:
    """Refuse now what would fail after all the work.

    Args:
        path: the file; None and "-" need none.
        flag: which named it.

    Raises:
        RequestError: it is a directory, or in none.
    """
    if path is None or str(path) == STDOUT:
        return
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise RequestError(f"Cannot write {path}: it is a directory, or in none.", hint=f"Check the path of {flag}.")


def write_result(path: str | Path, data: str | bytes) -> None:
    """Write a file; text gets a line feed at its end.

    Raises:
        RequestError: it cannot be written.
    """
    content = data if isinstance(data, bytes) else (data.rstrip("\n") + "\n").encode()
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise RequestError(f"Cannot write {path}: {error.strerror}.", hint="Check the path.") from error
