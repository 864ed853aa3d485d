"""What people call a model, taken apart; nothing is looked up here.

models/x.gguf  ~/x.gguf  C:\\x.gguf           a file
smollm2  smollm2:Q4_K_M                      a name of the catalog, or of what lies on this disk, with a quantization
org/repo  org/repo:Q4_K_M  org/repo@rev:x    a repository of the hub: best quantization, this one, that revision
hf://org/repo/folder/x.gguf                  one file of it; hf.co/ and https://huggingface.co/ say the same
https://example.org/x.gguf                   a file anywhere
@lab  @lab/llama-3                           a remote engine, and its model
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from localllm.errors import RequestError

_HUB_HOSTS = ("huggingface.co", "hf.co", "www.huggingface.co")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPO = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?(?::(?P<tag>[\w./-]+))?")
_REPO_FILE = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w.-]+))?/(?P<file>.+\.gguf)", re.IGNORECASE)
_NAME = re.compile(rf"(?P<name>{_PART})(?::(?P<tag>[A-Za-z0-9][\w.-]*))?")
_REMOTE = re.compile(rf"@(?P<remote>{_PART})(?:/(?P<model>\S+))?")


@dataclass(frozen=True)
class FileRef:
    """A file on this disk."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class NameRef:
    """A model's short name."""

    name: str
    tag: str | None = None
    """The quantization, as "Q4_K_M"; None: the best that fits."""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True)
class RepoRef:
    """A repository of the hub, or one file of it."""

    repo: str
    """ "org/name"."""
    tag: str | None = None
    """The quantization."""
    file: str | None = None
    """The path of a .gguf file in it; then there is no tag."""
    revision: str | None = None
    """A branch, tag or commit; None: the default branch."""

    def __str__(self) -> str:
        head = self.repo + (f"@{self.revision}" if self.revision else "")
        if self.file:
            return f"hf://{head}/{self.file}"
        return head + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True)
class UrlRef:
    """A file on a web server."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class RemoteRef:
    """An engine on another machine, by the name that `localllm remote add` gave it."""

    remote: str
    model: str | None = None
    """As it calls it; None: the one that it serves."""

    def __str__(self) -> str:
        return f"@{self.remote}" + (f"/{self.model}" if self.model else "")


ModelRef = FileRef | NameRef | RepoRef | UrlRef | RemoteRef


def parse_ref(text: str) -> ModelRef:
    """Return what a text calls a model. A file that is there goes before all other readings.

    Raises:
        RequestError: it is none of the forms above.
    """
    path = os.path.expanduser(text)
    if os.path.lexists(path):
        return FileRef(Path(path))
    for reading in (_remote, _on_the_hub, _url, _tagged_file, _file, _repo, _name):
        ref = reading(text)
        if ref is not None:
            return ref
    raise RequestError(
        f"{text!r} is no model's name.",
        hint="Give a name such as smollm2:Q4_K_M, a repository such as org/name:Q4_K_M, a URL, or a path.",
    )


def remote_ref(text: str | None) -> RemoteRef | None:
    """Return the remote that a text means; None where it means something else, such as a file that is there."""
    if text is None or not text.startswith("@") or os.path.lexists(text):
        return None
    return _remote(text)


def looks_like_file(text: str) -> bool:
    """Return whether a text is meant as a path: it begins like one, or ends in .gguf."""
    separators = (os.sep, *([os.altsep] if os.altsep else []))
    starts = ("~", *(f"{dots}{separator}" for separator in separators for dots in ("", ".", "..")))
    return text.startswith(starts) or text.lower().endswith(".gguf") or text.endswith(separators)


def _remote(text: str) -> RemoteRef | None:
    found = _REMOTE.fullmatch(text)
    return RemoteRef(found["remote"], found["model"]) if found else None


def _on_the_hub(text: str) -> ModelRef | None:
    """Read hf://…, hf.co/… and the hub's web addresses; None if it is none."""
    scheme, _, rest = text.partition("://")
    if not rest:
        scheme, rest = "", text
    host, _, path = rest.partition("/")
    if scheme == "hf":
        path = rest
    elif scheme not in ("", "http", "https") or host.lower() not in _HUB_HOSTS:
        return None
    path = unquote(path.split("?")[0].split("#")[0]).strip("/")
    pages = re.fullmatch(rf"({_PART}/{_PART})/(?:resolve|blob|tree)/([^/]+)(?:/(.+))?", path)
    if pages:
        revision = None if pages[2] == "main" else pages[2]
        return RepoRef(pages[1], file=pages[3], revision=revision)
    if found := _REPO_FILE.fullmatch(path):
        return RepoRef(found["repo"], file=found["file"], revision=found["revision"])
    ref = _repo(path)
    if ref is None:
        raise RequestError(
            f"{text} is no model on the hub.", hint="Give org/name, org/name:Q4_K_M, or a file's address."
        )
    return ref


def _url(text: str) -> ModelRef | None:
    if "://" not in text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestError(f"{text} is not fetched.", hint="Give an address that begins with https:// or hf://.")
    if not unquote(parts.path).lower().endswith(".gguf"):
        raise RequestError(f"{text} is not the address of a .gguf file.", hint="Give the file's own address.")
    return UrlRef(text)


def _tagged_file(text: str) -> ModelRef | None:
    """Read org/repo:file.gguf, which else would be a path."""
    ref = _repo(text)
    return ref if isinstance(ref, RepoRef) and ref.file else None


def _file(text: str) -> ModelRef | None:
    return FileRef(Path(os.path.expanduser(text))) if looks_like_file(text) else None


def _repo(text: str) -> ModelRef | None:
    found = _REPO.fullmatch(text)
    if not found:
        return None
    tag = found["tag"]
    if tag is not None and tag.lower().endswith(".gguf"):
        return RepoRef(found["repo"], file=tag, revision=found["revision"])
    return RepoRef(found["repo"], tag, revision=found["revision"])


def _name(text: str) -> ModelRef | None:
    found = _NAME.fullmatch(text)
    return NameRef(found["name"], found["tag"]) if found else None
