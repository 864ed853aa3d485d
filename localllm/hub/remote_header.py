"""The header of a GGUF file that lies on a server: its first bytes, by HTTP range requests, and nothing more.

They are put into a sparse file of the true size, so everything that checks a file's header checks this one, and what it
says of the tensors' places holds. The file has no weights: it is for planning only.
"""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request

from localllm.errors import InvalidModelFile, ModelNotFound, RequestError, ServerError
from localllm.gguf import printable
from localllm.gguf.header import read_part
from localllm.hub.file_names import shard_of

PREFIX_STEPS = tuple(1 << shift for shift in (20, 22, 23, 24, 25, 26, 27, 28))
"""Bytes that are asked for until the header is whole: 1 MiB holds that of a model without a vocabulary, 16 MiB most."""
MAX_PARTS = 1000
TIMEOUT_S = 20.0
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


class RemoteFile(NamedTuple):
    """A file on a server."""

    url: str
    headers: Mapping[str, str]
    """Of each request: who asks, and with which token."""


@contextmanager
def remote_header(file: RemoteFile) -> Iterator[Path]:
    """Fetch a file's header; the path of a sparse file that holds it lives as long as the block.

    Raises:
        ModelNotFound: the server has no such file.
        InvalidModelFile: it is no GGUF file.
        ServerError: the server is not there, refuses, or sends no ranges.
        RequestError: it wants a token, or another one.
    """
    with tempfile.TemporaryDirectory(prefix="localllm-header-") as folder:
        paths = [_fetch_header(part, Path(folder)) for part in _parts(file)]
        yield paths[0]


def _parts(file: RemoteFile) -> list[RemoteFile]:
    """Return the files of a split model, of which one is named; else that file alone."""
    address = urlsplit(file.url)
    shard = shard_of(unquote(address.path))
    if shard is None or shard.count > MAX_PARTS:
        return [file]
    names = [f"{shard.head}-{index:05d}-of-{shard.count:05d}.gguf" for index in range(1, shard.count + 1)]
    return [file._replace(url=address._replace(path=quote(name)).geturl()) for name in names]


def _fetch_header(file: RemoteFile, folder: Path) -> Path:
    path = folder / (PurePosixPath(unquote(urlsplit(file.url).path)).name or "model.gguf")
    n_have = 0
    for n_wanted in PREFIX_STEPS:
        data, n_total = _fetch(file, n_have, n_wanted)
        _append(path, n_have, data, n_total)
        n_have += len(data)
        if _is_whole(path, n_have, n_total):
            break
    return path


def _is_whole(path: Path, n_have: int, n_total: int) -> bool:
    """Return whether the header is among the bytes that are there; what is wrong with it later readers say."""
    try:
        header = read_part(path)
    except InvalidModelFile:
        # Beyond what is there the file is zeros, which no header survives; or it is no GGUF file at all.
        return n_have >= n_total or not _is_gguf(path)
    return header.data_offset <= n_have


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _append(path: Path, offset: int, data: bytes, n_total: int) -> None:
    with path.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        file.write(data)
        file.truncate(n_total)


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects; a token is for the host that was asked, not for the one that it sends us to."""

    def redirect_request(self, req: Request, *args: Any) -> Request | None:
        new = super().redirect_request(req, *args)
        if new is not None and urlsplit(new.full_url).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


_open = urllib.request.build_opener(_SameHost()).open


def _fetch(file: RemoteFile, start: int, end: int) -> tuple[bytes, int]:
    """Return bytes [start, end) of a file, and its size."""
    request = Request(file.url, headers={**file.headers, "Range": f"bytes={start}-{end - 1}"})
    try:
        with _open(request, timeout=TIMEOUT_S) as response:
            return _read(response, start, end)
    except urllib.error.HTTPError as error:
        raise _refusal(file.url, error) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerError(
            f"{_host(file.url)} does not answer: {printable(str(reason))}.", hint="Check the network, then try again."
        ) from error


def _read(response: HTTPResponse, start: int, end: int) -> tuple[bytes, int]:
    total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and total:
        return response.read(end - start), int(total[1])
    length = response.headers.get("Content-Length", "")
    if start == 0 and length.isdigit():
        return response.read(end), int(length)
    raise ServerError(f"{_host(response.url)} sends no parts of files.", hint="Download the file, then plan it.")


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    where = printable(url, 200)
    if error.code == 404:
        return ModelNotFound(f"There is no file {where}.", hint="Check its name on the model's page.")
    if error.code in (401, 403):
        return RequestError(
            f"{_host(url)} refuses {where} (HTTP {error.code}).",
            hint="Accept the model's terms on its page, then log in: hf auth login",
        )
    return ServerError(f"{_host(url)} answers HTTP {error.code} for {where}.", hint="Try again later.")


def _host(url: str) -> str:
    return printable(urlsplit(url).hostname or "The server")
