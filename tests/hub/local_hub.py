"""A hub on loopback: what huggingface_hub asks of Hugging Face, and faults on demand.

The API (search, repositories, trees), resolve with a redirect to a "CDN" under another host name, ranges, LFS and git
files, gated and private repositories, and plain files for URLs. Headers are those that huggingface_hub reads.

    python -m tests.hub.local_hub DIR      serves DIR/org/name/... as repositories; prints HF_ENDPOINT=...
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

TOKEN = "hf_local"
"""What is let in everywhere."""
_BLOCK = 16_384


@dataclass
class Fault:
    """What goes wrong with a request."""

    status: int | None = None
    """Answer this instead."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of that answer."""
    drop_after: int | None = None
    """Reset the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send nothing more after so many bytes, for `wait_s`, and then the rest."""
    bytes_s: float | None = None
    """Send no faster."""
    is_wrong: bool = False
    """Send other bytes."""
    announces: int = 0
    """Announce so many bytes more than there are (fewer than 0: less)."""
    more: int = 0
    """Send so many bytes more than there are."""
    wait_s: float = 0.0
    """Say nothing for so long, at the beginning or where it stalls."""


class Content:
    """A file's bytes, in memory or on disk."""

    def __init__(self, data: bytes | Path, *, is_lfs: bool = True) -> None:
        self._data = data
        self.is_lfs = is_lfs
        self.n_bytes = data.stat().st_size if isinstance(data, Path) else len(data)
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.n_bytes)
        for block in self.blocks(0, self.n_bytes):
            sha256.update(block)
            git.update(block)
        self.sha256, self.git = sha256.hexdigest(), git.hexdigest()

    @property
    def digest(self) -> str:
        return self.sha256 if self.is_lfs else self.git

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        if isinstance(self._data, Path):
            with self._data.open("rb") as file:
                file.seek(start)
                while start < end and (block := file.read(min(_BLOCK, end - start))):
                    start += len(block)
                    yield block
        else:
            for at in range(start, end, _BLOCK):
                yield self._data[at : min(end, at + _BLOCK)]


@dataclass
class HubRepo:
    """A repository."""

    name: str
    files: dict[str, Content]
    is_gated: bool = False
    is_private: bool = False
    n_downloads: int = 0
    n_likes: int = 0
    n_params: int | None = None
    revisions: set[str] = field(default_factory=lambda: {"main"})

    @property
    def commit(self) -> str:
        listing = repr(sorted((name, file.digest) for name, file in self.files.items()))
        return hashlib.sha1((self.name + listing).encode()).hexdigest()

    def info(self) -> dict[str, Any]:
        siblings = [_sibling(name, content) for name, content in sorted(self.files.items())]
        return {
            "id": self.name,
            "sha": self.commit,
            "downloads": self.n_downloads,
            "likes": self.n_likes,
            "lastModified": "2026-05-04T03:02:01.000Z",
            "gated": "manual" if self.is_gated else False,
            "private": self.is_private,
            "gguf": {"total": self.n_params} if self.n_params else None,
            "siblings": siblings,
            "tags": ["gguf"],
        }


class LocalHub:
    """The server; a context manager.

    Args:
        repos: what it has.
        port: 0: any.
    """

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.plain: dict[str, Content] = {}
        """Files at /files/NAME, for URLs."""
        self.plain_has_etag = True
        self.log: list[tuple[str, str, Mapping[str, str]]] = []
        """Method, path and headers (lower case) of every request, oldest first."""
        self.n_sent_bytes = 0
        """Of bodies of files."""
        self.n_at_once_max = 0
        """Bodies of files that were on their way together."""
        self._n_at_once = 0
        self._faults: list[tuple[str, Fault, int | None]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cdn(self) -> str:
        """Another host name, so that nothing that is meant for the hub alone is sent there."""
        return f"http://localhost:{self.port}/cdn"

    def url(self, name: str) -> str:
        """Return the address of a plain file."""
        return f"{self.endpoint}/files/{quote(name)}"

    def __enter__(self) -> LocalHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, files: Mapping[str, bytes | Path], *, is_lfs: bool = True, **options: Any) -> HubRepo:
        """Make a repository."""
        contents = {path: Content(data, is_lfs=is_lfs) for path, data in files.items()}
        self.repos[name] = HubRepo(name, contents, **options)
        return self.repos[name]

    def add_plain(self, name: str, data: bytes | Path) -> str:
        """Make a plain file, and return its address."""
        self.plain[name] = Content(data)
        return self.url(name)

    def fail(self, path: str, fault: Fault, times: int | None = 1) -> None:
        """Have requests whose path matches a pattern (`/cdn/*`) go wrong, so many times; None: always."""
        with self._lock:
            self._faults.append((path, fault, times))

    def heal(self) -> None:
        """Have nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def asked(self, path: str) -> list[Mapping[str, str]]:
        """Return the headers of the requests whose path matches a pattern."""
        with self._lock:
            return [headers for _, asked, headers in self.log if fnmatch.fnmatch(asked, path)]

    def fault_of(self, path: str) -> Fault:
        """Return what is to go wrong with a request, and count it."""
        with self._lock:
            for index, (pattern, fault, times) in enumerate(self._faults):
                if fnmatch.fnmatch(path, pattern):
                    if times is not None:
                        self._faults[index : index + 1] = [(pattern, fault, times - 1)] if times > 1 else []
                    return fault
        return Fault()

    def note(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        with self._lock:
            self.log.append((method, path, headers))

    def count(self, n_bytes: int) -> None:
        with self._lock:
            self.n_sent_bytes += n_bytes

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Count a body while it is on its way."""
        with self._lock:
            self._n_at_once += 1
            self.n_at_once_max = max(self.n_at_once_max, self._n_at_once)
        try:
            yield
        finally:
            with self._lock:
                self._n_at_once -= 1

    def content(self, digest: str) -> Content | None:
        contents = (content for repo in self.repos.values() for content in repo.files.values())
        return next((content for content in contents if content.digest == digest), None)


class _Server(ThreadingHTTPServer):
    hub: LocalHub
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are killed are the point."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    @property
    def hub(self) -> LocalHub:
        return self.server.hub

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.hub.note(self.command, path, {name.lower(): value for name, value in self.headers.items()})
        fault = self.hub.fault_of(path)
        time.sleep(0 if fault.stall_after is not None else fault.wait_s)
        if fault.status is not None:
            self._refuse(fault.status, fault.headers)
        elif path == "/api/models":
            self._search(parse_qs(parts.query))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path):
            self._api(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3], fault)
        elif path.startswith("/cdn/"):
            self._content(self.hub.content(path[5:]), {"ETag": f'"{path[5:]}"'}, fault)
        elif path.startswith("/files/"):
            content = self.hub.plain.get(path[7:])
            self._content(
                content, {"ETag": f'"{content.sha256}"'} if content and self.hub.plain_has_etag else {}, fault
            )
        else:
            self._refuse(404, {})

    @property
    def _is_known(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _repo(self, name: str, revision: str | None) -> HubRepo | None:
        """Return a repository, or refuse as the hub does: without a token it does not say what there is."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.is_private and not self._is_known):
            self._refuse(404 if self._is_known else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision is not None and unquote(revision) not in {*repo.revisions, repo.commit}:
            self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def _search(self, query: Mapping[str, list[str]]) -> None:
        words = " ".join(query.get("search", [])).lower().split()
        found = [repo for repo in self.hub.repos.values() if all(word in repo.name.lower() for word in words)]
        order = query.get("sort", [""])[0]
        if order in ("downloads", "likes"):
            found.sort(key=lambda repo: -repo.info()[order])
        self._json([repo.info() for repo in found][: int(query.get("limit", ["1000"])[0])])

    def _api(self, name: str, kind: str | None, revision: str | None) -> None:
        repo = self._repo(name, revision)
        if repo is not None:
            self._json(
                [_entry(path, content) for path, content in repo.files.items()] if kind == "tree" else repo.info()
            )

    def _resolve(self, name: str, revision: str, path: str, fault: Fault) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        if repo.is_gated and not self._is_known:
            self._refuse(401, {"X-Error-Code": "GatedRepo"})
            return
        content = repo.files.get(path)
        headers = {"X-Repo-Commit": repo.commit}
        if content is None:
            self._refuse(404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        if not content.is_lfs:
            self._content(content, {**headers, "ETag": f'"{content.git}"'}, fault)
            return
        self.send_response(302)
        headers["X-Linked-Etag"] = f'"{content.sha256}"'
        headers["X-Linked-Size"] = str(content.n_bytes)
        self._head({**headers, "Location": f"{self.hub.cdn}/{content.sha256}?signed=1", "Content-Length": "0"})

    def _content(self, content: Content | None, headers: Mapping[str, str], fault: Fault) -> None:
        if content is None:
            self._refuse(404, {})
            return
        start, end = 0, content.n_bytes
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        is_same = self.headers.get("if-range") in (None, *headers.values())
        if wanted and is_same:
            start, end = int(wanted[1]), min(end, int(wanted[2]) + 1 if wanted[2] else end)
            if start >= content.n_bytes:
                self._refuse(416, {"Content-Range": f"bytes */{content.n_bytes}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{content.n_bytes}"}
        self.send_response(206 if wanted and is_same else 200)
        self._head(
            {**headers, "Content-Length": str(end - start + fault.announces + fault.more), "Accept-Ranges": "bytes"}
        )
        if self.command == "GET":
            self._send(content, start, end, fault)

    def _send(self, content: Content, start: int, end: int, fault: Fault) -> None:
        n_sent = 0
        with contextlib.suppress(ConnectionError), contextlib.ExitStack() as sending:
            sending.enter_context(self.hub.sending())
            for block in content.blocks(start, end):
                data = bytes(255 - byte for byte in block) if fault.is_wrong else block
                if fault.drop_after is not None and n_sent + len(data) >= fault.drop_after:
                    self.wfile.write(data[: fault.drop_after - n_sent])
                    self.hub.count(fault.drop_after - n_sent)
                    self._reset()
                    return
                if fault.bytes_s:
                    time.sleep(len(data) / fault.bytes_s)
                n_sent += len(data)
                if n_sent >= end - start:
                    # Who has the last byte may ask for the next file before this thread goes on.
                    sending.close()
                self.wfile.write(data)
                self.hub.count(len(data))
                if fault.stall_after is not None and n_sent - len(data) <= fault.stall_after < n_sent:
                    time.sleep(fault.wait_s)
            self.wfile.write(b"m" * fault.more)
        if fault.announces:
            self.close_connection = True

    def _reset(self) -> None:
        """End the connection as a broken line does."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self._head({"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _refuse(self, status: int, headers: Mapping[str, str]) -> None:
        body = b'{"error":"refused"}' if self.command == "GET" else b""
        self.send_response(status)
        self._head({"Content-Length": str(len(body)), "X-Error-Message": "Refused.", **headers})
        self.wfile.write(body)

    def _head(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _sibling(name: str, content: Content) -> dict[str, Any]:
    lfs = {"sha256": content.sha256, "size": content.n_bytes, "pointerSize": 134} if content.is_lfs else None
    return {"rfilename": name, "size": content.n_bytes, "blobId": content.git} | ({"lfs": lfs} if lfs else {})


def _entry(path: str, content: Content) -> dict[str, Any]:
    lfs = {"oid": content.sha256, "size": content.n_bytes, "pointerSize": 134} if content.is_lfs else None
    return {"type": "file", "path": path, "size": content.n_bytes, "oid": content.git} | ({"lfs": lfs} if lfs else {})


def main(folder: Path, port: int = 0) -> None:
    """Serve a folder's repositories until Ctrl-C."""
    with LocalHub(port) as hub:
        for repo in sorted(folder.glob("*/*")):
            files = {path.relative_to(repo).as_posix(): path for path in sorted(repo.rglob("*")) if path.is_file()}
            hub.add(f"{repo.parent.name}/{repo.name}", files)
        sys.stdout.write(f"HF_ENDPOINT={hub.endpoint}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
