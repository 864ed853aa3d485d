"""Fetching bytes over a line that drops, stalls and lies: ask for the rest until all is there.

huggingface_hub's own http_get keeps nothing for the next process, loses up to 10 MB with each drop, and checks no
digest; so the loop is ours. Its session (proxies, certificates, offline mode) and its errors are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from localllm.errors import DamagedDownload, HubRateLimited
from localllm.gguf.problems import printable
from localllm.hub.failures import hub_errors
from localllm.hub.partial import Partial

if TYPE_CHECKING:
    from httpx2 import Response

PIECE_BYTES = 16 << 30
"""Asked for at once. The hub's network refuses more than 50 GB in one answer, and signed addresses run out."""
MAX_WAIT_S = 60
"""Longest that a server which has had enough requests is waited for."""
SAID_WAIT_S = 1.0
"""From this long on, a pause is told of."""
_RETRIED = (408, 425, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Stopped(Exception):
    """Somebody no longer wants the download; caught where that is known."""


@dataclass(frozen=True)
class Patience:
    """How long failures are borne that bring nothing; an attempt that brought bytes begins the count anew."""

    n_tries: int = 6
    first_wait_s: float = 0.5
    """Before the second try; each next one is twice as long."""
    max_wait_s: float = 10.0

    def wait_s(self, n_failed: int) -> float:
        """Return how long to wait after so many failures in a row."""
        return float(min(self.max_wait_s, self.first_wait_s * 2 ** (n_failed - 1))) if n_failed else 0.0


@dataclass
class Head:
    """What an answer says about the whole file."""

    n_bytes: int | None
    validator: str | None
    """A strong ETag, or the date of the last change; None: the file cannot be told from a later one."""
    is_rest: bool
    """Whether the rest was sent, and not all."""


@dataclass
class Transfer:
    """One file's way from a web server to a Partial."""

    url: str
    asked: str
    """For messages."""
    headers: Mapping[str, str]
    partial: Partial
    n_bytes: int | None
    """How long the whole is; None: not known before the answer."""
    on_bytes: Callable[[int], None]
    """Called with how many more there are; fewer than 0 when all begins anew."""
    stop: Event
    validator: str | None = None
    """Of the file that the partial is the beginning of, where a later one may be at the same address."""
    is_hub: bool = True
    patience: Patience = field(default_factory=Patience)
    on_head: Callable[[Head], None] = lambda head: None
    """Called before the bytes of an answer are written; may refuse them."""
    on_note: Callable[[str], None] = lambda note: None
    """Called with why there is a pause, if it is one that people notice."""
    _is_over: bool = False

    def run(self) -> None:
        """Fetch until all is there.

        Raises:
            HubError: it does not come, after several tries.
            NotEnoughDisk: the disk is full.
            Stopped: `stop` was set.
        """
        n_failed = 0
        while not self._is_whole:
            before = self.partial.n_bytes
            failure: Exception | None = None
            try:
                with hub_errors(self.asked, is_hub=self.is_hub):
                    self._request()
            except Exception as error:
                failure = error
            n_failed = 0 if self.partial.n_bytes > before else n_failed + 1
            if not self._is_whole:
                self._bear(failure, n_failed)

    def _bear(self, failure: Exception | None, n_failed: int) -> None:
        """Wait after an attempt that did not bring the end, or raise what may be said of it."""
        if failure is not None and not _is_passing(failure):
            raise failure
        if n_failed >= self.patience.n_tries:
            raise failure or _cut_short(self.asked, self.partial.n_bytes, self.n_bytes)
        asked_for_s = failure.retry_after_s or 0 if isinstance(failure, HubRateLimited) else 0
        wait_s = max(asked_for_s, self.patience.wait_s(n_failed))
        if failure is not None and wait_s >= SAID_WAIT_S:
            self.on_note(f"{failure} Trying again in {wait_s:.0f} s.")
        if self.stop.wait(wait_s):
            raise Stopped

    @property
    def _is_whole(self) -> bool:
        return self._is_over or (self.n_bytes is not None and self.partial.n_bytes >= self.n_bytes)

    def _request(self) -> None:
        """Ask once for what is missing, and write what comes."""
        with self._answer() as response:
            if response.status_code == 416:
                self._restart()
                return
            from huggingface_hub.utils import hf_raise_for_status

            hf_raise_for_status(response)
            head = _head(response, self.partial.n_bytes)
            if not head.is_rest and self.partial.n_bytes:
                self._restart()
            self.on_head(head)
            n_bytes = self.n_bytes if self.n_bytes is not None else head.n_bytes
            self._write(response, n_bytes)
            # Without a length, the end of the answer is the end of the file; a broken one raises before this.
            self._is_over = n_bytes is None
            if self.n_bytes is None:
                self.n_bytes = n_bytes

    def _write(self, response: Response, n_bytes: int | None) -> None:
        for data in response.iter_bytes():
            if self.stop.is_set():
                raise Stopped
            wanted = data if n_bytes is None else data[: n_bytes - self.partial.n_bytes]
            self.partial.append(wanted)
            self.on_bytes(len(wanted))
            if n_bytes is not None and self.partial.n_bytes >= n_bytes:
                return

    @contextmanager
    def _answer(self) -> Iterator[Response]:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session

        headers = {**self.headers, **self._range(), "Accept-Encoding": "identity"}
        timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream(
            "GET", self.url, headers=headers, timeout=timeout_s, follow_redirects=True
        ) as response:
            yield response

    def _range(self) -> dict[str, str]:
        start = self.partial.n_bytes
        if self.n_bytes is None:
            headers = {"Range": f"bytes={start}-"} if start else {}
        elif start or self.n_bytes > PIECE_BYTES:
            headers = {"Range": f"bytes={start}-{min(self.n_bytes, start + PIECE_BYTES) - 1}"}
        else:
            headers = {}
        if headers and self.validator:
            headers["If-Range"] = self.validator
        return headers

    def _restart(self) -> None:
        self.on_bytes(-self.partial.n_bytes)
        self.partial.restart()


def _head(response: Response, start: int) -> Head:
    """Return what an answer says, having checked that it is of what was asked for."""
    headers = response.headers
    etag = headers.get("etag", "")
    validator = etag if etag.startswith('"') else headers.get("last-modified")
    if response.status_code == 206:
        found = _CONTENT_RANGE.match(headers.get("content-range", ""))
        if not found or int(found[1]) != start:
            raise _strange(response, "another part than asked for")
        return Head(None if found[2] == "*" else int(found[2]), validator, is_rest=True)
    if response.status_code != 200:
        raise _strange(response, "no file")
    length = headers.get("content-length", "")
    is_plain = headers.get("content-encoding", "identity") == "identity"
    return Head(int(length) if length.isdigit() and is_plain else None, validator, is_rest=False)


def _is_passing(error: Exception) -> bool:
    """Return whether the same request may well succeed in a moment."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    cause = error.__cause__
    if isinstance(error, HubRateLimited):
        return error.retry_after_s is not None and error.retry_after_s <= MAX_WAIT_S
    if isinstance(cause, OfflineModeIsEnabled):
        return False
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in _RETRIED
    return isinstance(cause, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError)


def _strange(response: Response, what: str) -> Exception:
    import httpx2

    return httpx2.RemoteProtocolError(f"the server sent {what}", request=response.request)


def _cut_short(asked: str, n_bytes: int, n_whole: int | None) -> Exception:
    return DamagedDownload(
        f"{printable(asked, 200)} ends after {n_bytes:,} of {n_whole or 0:,} bytes, again and again.",
        hint="Try again later; the same command goes on from here.",
    )
