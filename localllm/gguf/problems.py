"""The words for what is wrong with a file. Every message is one line, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import InvalidModelFile

DAMAGED = "The file is damaged. Download it again, and compare its checksum with the publisher's."
TRUNCATED = "The file is incomplete. Download it again; most downloaders resume."
CONVERT = "Convert it with a current llama.cpp (convert_hf_to_gguf.py), or download a GGUF of the model."

MAX_SHOWN = 80
"""Characters of a file's own text that a message repeats."""


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """Return text from a file as one short line without control characters.

    A file's text must reach neither a terminal nor a log as it is: it may hold escape sequences.
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)


def quoted(text: str) -> str:
    """Return a name from a file, printable and in quotes."""
    return f"'{printable(text)}'"


def invalid(path: Path, problem: str, hint: str = DAMAGED) -> InvalidModelFile:
    """Return the error for a file: its name, what is wrong with it, and what to do next."""
    return InvalidModelFile(f"{printable(path.name, 200)}: {problem}", hint=hint)
