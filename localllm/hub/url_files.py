"""A GGUF file at any address, into this program's own folder.

    x.gguf           the file, once it is whole and a GGUF file
    x.gguf.json      where it is from, its size and its SHA-256
    x.gguf.partial   what has come so far

No digest is announced there, so what is checked is the length, and that the header fits the file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Event
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from localllm import paths
from localllm._version import __version__
from localllm.errors import InvalidModelFile, RequestError
from localllm.gguf.header import read_part
from localllm.gguf.new_file import cannot_write, check_room, make_folder
from localllm.gguf.problems import printable
from localllm.gguf.source import MAGIC
from localllm.hub.file_names import shard_of
from localllm.hub.locks import held
from localllm.hub.meter import Meter
from localllm.hub.notes import note_path, read_note, write_note
from localllm.hub.parallel import run_all
from localllm.hub.partial import Partial
from localllm.hub.pulled import N_AT_ONCE, Pulled, PullOptions
from localllm.hub.refs import UrlRef
from localllm.hub.transfer import Head, Transfer
from localllm.partial_files import PARTIAL, sync_folder, unlink

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|^\.')


@dataclass(frozen=True)
class Origin:
    """Where a file is from; written beside it."""

    url: str
    """Without a query, which may hold a key."""
    n_bytes: int | None = None
    etag: str | None = None
    """What tells this file from a later one at the same address: an ETag, or a date."""
    sha256: str | None = None
    """None: it is not whole yet."""


def pull_url(ref: UrlRef, options: PullOptions) -> Pulled:
    """Have the file at a URL, and, if it is a part of a split model, the other parts beside it.

    Raises:
        HubError: it does not come.
        NotEnoughDisk: there is no room for it.
        InvalidModelFile: what is there is no GGUF file.
        RequestError: a file of this name is there already, from another place.
    """
    folder = options.folder or paths.ensure(paths.models_dir())
    make_folder(folder / ".locks")
    meter, stop = Meter(None, options.on_progress), options.stop or Event()
    sizes = dict[str, int | None]()
    urls = _part_urls(ref.url)

    def on_size(url: str, n_bytes: int | None) -> None:
        sizes[url] = n_bytes
        known = [size for size in sizes.values() if size is not None]
        meter.expect(sum(known) if len(known) == len(urls) else None)

    fetches = [_Fetch(url, folder / _file_name(url), meter, stop, options, on_size) for url in urls]
    run_all([fetch.run for fetch in fetches], N_AT_ONCE, stop)
    files = tuple(fetch.path for fetch in fetches)
    n_bytes = sum(file.stat().st_size for file in files)
    return Pulled(files[0], files, n_bytes, meter.n_fetched_bytes)


def read_origin(path: Path) -> Origin | None:
    """Return where a file of the folder is from; None if nothing sound is written beside it."""
    try:
        return Origin(**read_note(path))
    except TypeError:
        return None


@dataclass
class _Fetch:
    """One file's way into the folder."""

    url: str
    path: Path
    meter: Meter
    stop: Event
    options: PullOptions
    on_size: Callable[[str, int | None], None]

    def run(self) -> None:
        lock = self.path.parent / ".locks" / f"{self.path.name}.lock"
        with held(lock, self._say_waiting, self.stop):
            if self._is_here():
                n_bytes = self.path.stat().st_size
                self.on_size(self.url, n_bytes)
                self.meter.found(n_bytes)
            else:
                self._fetch()

    def _say_waiting(self) -> None:
        self.options.on_note(f"Another process fetches {printable(self.path.name, 200)}; waiting for it.")

    def _is_here(self) -> bool:
        if not self.path.exists():
            return False
        origin = read_origin(self.path)
        if origin and origin.url == _without_query(self.url) and origin.sha256:
            return True
        raise RequestError(
            f"{printable(str(self.path), 200)} is there already, from another place.", hint="Rename it, or remove it."
        )

    def _fetch(self) -> None:
        partial_path = self.path.with_name(self.path.name + PARTIAL)
        self.options.on_partial(partial_path)
        origin = Origin(_without_query(self.url))
        known = read_origin(self.path)
        with Partial(partial_path, hashlib.sha256) as partial:
            if known and known.url == origin.url and known.etag:
                origin = replace(known, sha256=None)
            else:
                partial.restart()
            self.on_size(self.url, origin.n_bytes)
            self.meter.found(partial.n_bytes)
            origin = self._transfer(partial, origin)
            digest = partial.finish()
        try:
            read_part(partial_path)
        except InvalidModelFile as error:
            self._discard(partial_path)
            raise InvalidModelFile(
                f"What came from {printable(origin.url, 200)} is no sound GGUF file: {error.message}",
                hint="It was deleted. Check the address.",
            ) from error
        write_note(self.path, asdict(replace(origin, n_bytes=partial.n_bytes, sha256=digest)))
        self._keep(partial_path)

    def _transfer(self, partial: Partial, origin: Origin) -> Origin:
        """Fetch what is missing, and return what the server says of the file."""
        transfer = Transfer(
            url=self.url,
            asked=origin.url,
            headers={"User-Agent": f"localllm/{__version__}"},
            partial=partial,
            n_bytes=origin.n_bytes,
            on_bytes=self.meter.add,
            stop=self.stop,
            validator=origin.etag,
            is_hub=False,
            patience=self.options.patience,
            on_note=self.options.on_note,
        )

        def on_head(head: Head) -> None:
            nonlocal origin
            if not head.is_rest or origin.n_bytes is None:
                origin = replace(origin, n_bytes=head.n_bytes, etag=head.validator)
                transfer.n_bytes, transfer.validator = head.n_bytes, head.validator
                self.on_size(self.url, head.n_bytes)
                check_room(self.path, (head.n_bytes or 0) - partial.n_bytes)
                write_note(self.path, asdict(origin))

        def on_bytes(n_bytes: int) -> None:
            self.meter.add(n_bytes)
            if 0 < partial.n_bytes - n_bytes < len(MAGIC) <= partial.n_bytes or partial.n_bytes == n_bytes > 0:
                self._check_magic(partial.path)

        transfer.on_head, transfer.on_bytes = on_head, on_bytes
        transfer.run()
        return origin

    def _check_magic(self, partial: Path) -> None:
        """Stop at once where a page came instead of a model."""
        with partial.open("rb") as file:
            head = file.read(len(MAGIC))
        if head != MAGIC[: len(head)]:
            self._discard(partial)
            raise InvalidModelFile(
                f"What {printable(_without_query(self.url), 200)} sends is no GGUF file; it begins with"
                f" {printable(head.decode('latin-1'))!r}.",
                hint="Give the address of the file itself, not of its page.",
            )

    def _discard(self, partial: Path) -> None:
        unlink(partial)
        unlink(note_path(self.path))

    def _keep(self, partial: Path) -> None:
        try:
            partial.replace(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        sync_folder(self.path.parent)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _file_name(url: str) -> str:
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if _UNSAFE.search(name):
        raise RequestError(f"{printable(name)} is no name for a file here.", hint="Fetch it with another program.")
    return name


def _part_urls(url: str) -> list[str]:
    """Return the addresses of all parts, in order; of a whole file its own alone."""
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    shard = shard_of(unquote(name))
    if shard is None:
        return [url]
    names = [f"{shard.head}-{index + 1:05d}-of-{shard.count:05d}.gguf" for index in range(shard.count)]
    return [urlunsplit(parts._replace(path=f"{folder}/{quote(name)}")) for name in names]
