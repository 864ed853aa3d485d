"""The engines that people named with `localllm remote add`, in a file of TOML that they may edit.

    [lab]
    url = "http://192.168.1.5:8000"
    key_env = "LAB_KEY"
    model = "meta-llama/Llama-3.1-8B-Instruct"

Keys may be in it, so only its owner may read it. It is edited table by table: what else people write in it stays.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import ModelNotFound, RequestError
from localllm.hub.refs import RemoteRef
from localllm.remotes.address import root_of
from localllm.text_files import replace_text

FILE_NAME = "remotes.toml"
SILENCE_S = 60.0
"""The longest silence in an answer, unless a remote has its own."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEADER = re.compile(r"\s*\[\s*(?P<quote>[\"']?)(?P<name>[A-Za-z0-9._-]+)(?P=quote)\s*\]\s*(?:#.*)?")
_TEXTS = ("url", "key", "key_env", "model")


@dataclass(frozen=True)
class Remote:
    """One engine: where it is, and how it is asked."""

    name: str
    root_url: str
    """Without /v1."""
    key: str | None = field(default=None, repr=False)
    key_env: str | None = None
    """The environment variable that holds the key."""
    model: str | None = None
    """The one that is meant where nobody says."""
    silence_s: float = SILENCE_S
    """The longest silence in an answer, before it counts as dead."""

    def secret(self) -> str | None:
        """Return the key; None if there is none.

        Raises:
            RequestError: its variable is not set.
        """
        if self.key_env is None:
            return self.key
        value = os.environ.get(self.key_env, "")
        if not value:
            raise RequestError(
                f"The key of {self.name} is not there: the environment variable {self.key_env} is not set.",
                hint=f"Set {self.key_env}, or give the key: localllm remote add {self.name} {self.root_url} --force"
                " --key KEY",
            )
        return value


class Remotes:
    """The file of remotes.

    Args:
        file: None is the one in the directory of settings.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = paths.config_dir() / FILE_NAME if file is None else file

    def all(self) -> dict[str, Remote]:
        """Return name to remote, in the order of the file.

        Raises:
            RequestError: the file cannot be read, or something in it is not allowed.
        """
        return {name: self._remote(name, table) for name, table in _tables(self._text(), self.file).items()}

    def find(self, name: str) -> Remote:
        """Return the remote of this name.

        Raises:
            ModelNotFound: there is none; the hint says which there are.
            RequestError: as `all`.
        """
        known = self.all()
        if name in known:
            return known[name]
        near = get_close_matches(name, known, n=1)
        guess = f" Did you mean @{near[0]}?" if near else ""
        there_is = f"There are {', '.join(f'@{one}' for one in known)}. " if known else ""
        raise ModelNotFound(
            f"No remote is called {name!r}.{guess}", hint=f"{there_is}Add one: localllm remote add {name} URL"
        )

    def add(self, remote: Remote, *, replace: bool = False) -> None:
        """Write a remote into the file.

        Raises:
            RequestError: there is one of this name and `replace` is false, or something is not allowed.
        """
        if remote.name in self.all():
            if not replace:
                raise RequestError(f"There is a remote {remote.name} already.", hint="Choose another name, or --force.")
            text = _without(self._text(), remote.name)
        else:
            text = self._text()
        block = _block(remote)
        self._write(f"{text.rstrip()}\n\n{block}" if text.strip() else block, {remote.name: remote})

    def remove(self, name: str) -> None:
        """Take a remote out of the file.

        Raises:
            ModelNotFound: there is none of this name.
            RequestError: the file cannot be written.
        """
        self.find(name)
        self._write(_without(self._text(), name), {name: None})

    def _remote(self, name: str, table: Any) -> Remote:
        where = f"{name} in {self.file}"
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            raise RequestError(f"{where} is not a remote.", hint='Write [NAME], and below it url = "http://...".')
        for key, value in table.items():
            if key not in (*_TEXTS, "silence_s"):
                raise RequestError(
                    f"Unknown key {key!r} of {where}.", hint=f"There are {', '.join(_TEXTS)} and silence_s."
                )
            if key in _TEXTS and not (isinstance(value, str) and value and value.isprintable()):
                raise RequestError(f"{key} of {where} must be a text.", hint=f'Write it like {key} = "..."')
        if "url" not in table:
            raise RequestError(f"{where} has no url.", hint='Write a line such as url = "http://192.168.1.5:8000".')
        silence_s = table.get("silence_s", SILENCE_S)
        if isinstance(silence_s, bool) or not isinstance(silence_s, int | float) or not 0 < silence_s < 1e6:
            raise RequestError(f"silence_s of {where} is {silence_s!r}; it must be seconds above 0.")
        texts: dict[str, str] = {key: table[key] for key in _TEXTS[1:] if key in table}
        return Remote(name, root_of(table["url"]), **texts, silence_s=float(silence_s))

    def _text(self) -> str:
        try:
            return self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise RequestError(f"Cannot read {self.file}: {reason}.", hint="Mend or remove the file.") from error

    def _write(self, text: str, changed: Mapping[str, Remote | None]) -> None:
        """Replace the file, at once, by one that only its owner may read."""
        expected = {name: remote for name, remote in {**self.all(), **changed}.items() if remote is not None}
        found = {name: self._remote(name, table) for name, table in _tables(text, self.file).items()}
        if found != expected:
            raise RequestError(f"{self.file} cannot be edited line by line.", hint="Edit it by hand.")
        paths.ensure(self.file.parent)
        replace_text(self.file, text, 0o600)


def remote_of(ref: RemoteRef) -> Remote:
    """Return the remote that a reference such as @lab/model means, with that model.

    Raises:
        ModelNotFound, RequestError: as `Remotes.find`.
    """
    from dataclasses import replace

    found = Remotes().find(ref.remote)
    return replace(found, model=ref.model) if ref.model else found


def checked_name(name: str) -> str:
    """Return a name for a remote.

    Raises:
        RequestError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} is no name for a remote.", hint="Use letters, digits, dots, dashes and underscores, such as lab."
        )
    return name


def _tables(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{file} is not TOML: {error}.", hint="Mend or remove the file.") from error


def _block(remote: Remote) -> str:
    lines = [f'["{remote.name}"]' if "." in remote.name else f"[{remote.name}]", f"url = {_quoted(remote.root_url)}"]
    lines += [f"{key} = {_quoted(value)}" for key in _TEXTS[1:] if (value := getattr(remote, key)) is not None]
    if remote.silence_s != SILENCE_S:
        lines.append(f"silence_s = {remote.silence_s:g}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON string of printable characters is a TOML string, too.
    return json.dumps(text, ensure_ascii=False)


def _without(text: str, name: str) -> str:
    """Return the text without a table: from its header to the next one's, comments between them kept."""
    return "".join(_kept_lines(text, name))


def _kept_lines(text: str, name: str) -> Iterator[str]:
    is_inside = False
    for line in text.splitlines(keepends=True):
        header = _HEADER.fullmatch(line.rstrip("\r\n"))
        if header:
            is_inside = header["name"] == name
        if not is_inside or line.lstrip().startswith("#"):
            yield line
