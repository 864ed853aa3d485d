"""Reading the text files that users name."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import RequestError


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
