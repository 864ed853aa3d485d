"""Text files that go with a question: read, checked, and put into words."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from localllm.errors import RequestError

N_BYTES_MOST = 1 << 20
_N_PASTED_PATHS = 4096
"""Characters of a paste that may be names of files; longer ones are text."""


@dataclass(frozen=True)
class Attachment:
    """A text that goes with a question."""

    name: str
    text: str

    @property
    def label(self) -> str:
        """Its name, and how long it is."""
        n_lines = self.text.count("\n") + (not self.text.endswith("\n"))
        return f"{self.name} · {n_lines:,} {'line' if n_lines == 1 else 'lines'}"


def read_attachment(path: Path) -> Attachment:
    """Read a text file.

    Raises:
        RequestError: it is not there, too large, or not text; the message says which.
    """
    try:
        if not path.is_file():
            raise RequestError(f"{path} is not a file.", hint="Attach text files one by one.")
        n_bytes = path.stat().st_size
        if n_bytes > N_BYTES_MOST:
            size = f"{n_bytes / 2**20:,.1f} MiB; at most {N_BYTES_MOST >> 20} MiB can be attached"
            raise RequestError(f"{path.name} has {size}.", hint="Attach the part that matters.")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.", hint="Check its name and rights.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise RequestError(f"{path.name} is not a text file.", hint="Only text (UTF-8) can be attached.")
    return Attachment(path.name, text)


def pasted_paths(text: str) -> list[Path]:
    """Return the files that a paste names, as terminals paste what is dropped on them; none if it is anything else."""
    text = text.strip()
    if not text or len(text) > _N_PASTED_PATHS or not re.match(r"""['"]?(/|~/|file://|[A-Za-z]:\\)""", text):
        return []
    found = [Path(text).expanduser()]
    if not _is_file(found[0]):
        try:
            found = [_path_of(word) for word in shlex.split(text)]
        except ValueError:
            return []
    return found if all(map(_is_file, found)) else []


def named_files(text: str, folder: Path) -> list[Path]:
    """Return the files that words such as @notes.txt name."""
    words = re.findall(r"(?<!\S)@(\S+)", text)
    return [path for path in (folder / Path(word).expanduser() for word in words) if _is_file(path)]


def with_attachments(text: str, attachments: list[Attachment]) -> str:
    """Return a question with its files above it, each in a fence that nothing in it ends."""
    parts = []
    for attachment in attachments:
        longest = max(map(len, re.findall("`{3,}", attachment.text)), default=2)
        fence = "`" * (longest + 1)
        parts.append(f"{attachment.name}:\n{fence}\n{attachment.text.rstrip()}\n{fence}")
    return "\n\n".join([*parts, text] if text else parts)


def _path_of(word: str) -> Path:
    if word.startswith("file://"):
        return Path(unquote(urlsplit(word).path))
    return Path(word).expanduser()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
