"""The text that models are measured on: a file's, or one that comes with the program."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from localllm.errors import RequestError

DEFAULT_NAME = "alice"


def default_text() -> str:
    """Return chapters I to V of "Alice's Adventures in Wonderland" by Lewis Carroll, 1865: public domain, 58 kB.

    Models have read it, so perplexities on it are low; what it is good for is the difference of two settings.
    """
    return files(__package__).joinpath(f"{DEFAULT_NAME}.txt").read_text(encoding="utf-8")


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
