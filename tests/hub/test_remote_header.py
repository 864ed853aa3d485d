"""Headers by range requests, from a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from localllm.errors import InvalidModelFile, ModelNotFound, RequestError, ServerError
from localllm.gguf import read_header
from localllm.hub.remote_header import RemoteFile, remote_header
from tests.tiny_model import write_tiny_model


class Files:
    """Serves a folder, with ranges or without, and remembers what it sent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.has_ranges, self.status, self.n_sent = folder, True, 200, 0
        self.tokens: list[str | None] = []
        self.moves_to = ""
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.tokens.append(request.headers.get("Authorization"))
        path = self.folder / request.path.removeprefix("/moved").lstrip("/")
        if self.status != 200 or not path.is_file():
            request.send_error(self.status if self.status != 200 else 404)
            return
        if request.path.startswith("/moved"):
            request.send_response(302)
            request.send_header("Location", self.moves_to + request.path.removeprefix("/moved"))
            request.end_headers()
            return
        self.send(request, path)

    def send(self, request: BaseHTTPRequestHandler, path: Path) -> None:
        size = path.stat().st_size
        start, end = 0, size - 1
        if self.has_ranges and "Range" in request.headers:
            first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last), size - 1)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(end - start + 1))
        request.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start + 1)
        self.n_sent += len(data)
        try:
            request.wfile.write(data)
        except OSError:
            return


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    served = Files(tmp_path)
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.mark.parametrize("n_more_tokens", [0, 120_000])
def test_a_header_is_what_the_whole_file_says(files: Files, tmp_path: Path, n_more_tokens: int) -> None:
    local = write_tiny_model(tmp_path / "tiny.gguf", n_more_tokens=n_more_tokens, n_layer=6)
    with remote_header(RemoteFile(f"{files.url}/moved/tiny.gguf", {})) as path:
        ours, theirs = read_header(path), read_header(local)
        assert (ours.tensors, ours.data_offset, ours.n_bytes) == (theirs.tensors, theirs.data_offset, theirs.n_bytes)
        assert path.name == "tiny.gguf"
    assert not path.exists()


def test_of_a_large_file_only_the_beginning_is_fetched(files: Files, tmp_path: Path) -> None:
    local = write_tiny_model(tmp_path / "tiny.gguf", n_embd=1024, n_ff=4096)
    with remote_header(RemoteFile(f"{files.url}/tiny.gguf", {})) as path:
        assert path.stat().st_size == local.stat().st_size > 60 << 20
    assert files.n_sent == 1 << 20


def test_a_server_without_ranges_is_hung_up_on(files: Files, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    files.has_ranges = False
    with remote_header(RemoteFile(f"{files.url}/tiny.gguf", {})) as path:
        assert read_header(path).architecture == "llama"


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [(404, ModelNotFound, "name"), (401, RequestError, "log in"), (403, RequestError, "terms"), (500, ServerError, "")],
)
def test_refusals_say_what_to_do(files: Files, tmp_path: Path, status: int, error: type, hint: str) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    files.status = status
    with pytest.raises(error) as caught, remote_header(RemoteFile(f"{files.url}/tiny.gguf", {})):
        pass
    assert hint in (caught.value.hint or "")


def test_what_is_no_model_is_refused_without_fetching_all_of_it(files: Files, tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_bytes(b"<!doctype html>" + bytes(8 << 20))
    with remote_header(RemoteFile(f"{files.url}/page.gguf", {})) as path, pytest.raises(InvalidModelFile):
        read_header(path)
    assert files.n_sent == 1 << 20


def test_headers_are_sent(files: Files, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    with remote_header(RemoteFile(f"{files.url}/tiny.gguf", {"Authorization": "Bearer hf_x"})):
        assert files.tokens == ["Bearer hf_x"]


def test_a_server_that_is_not_there_is_said_so() -> None:
    with (
        pytest.raises(ServerError, match="does not answer"),
        remote_header(RemoteFile("http://127.0.0.1:1/x.gguf", {})),
    ):
        pass


def test_a_token_stays_with_the_host_that_was_asked(files: Files, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    elsewhere = Files(tmp_path)
    try:
        files.moves_to = elsewhere.url
        with remote_header(RemoteFile(f"{files.url}/moved/tiny.gguf", {"Authorization": "Bearer hf_x"})) as path:
            assert read_header(path).architecture == "llama"
        assert (files.tokens, elsewhere.tokens) == (["Bearer hf_x"], [None])
    finally:
        elsewhere.server.shutdown()
        elsewhere.server.server_close()
