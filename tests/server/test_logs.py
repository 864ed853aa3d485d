"""What is logged, and what never is."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from localllm.engine.events import ErrorInfo
from localllm.server.logs import LogFormat, configure_logging
from localllm.server.settings import key_digest
from tests.scripted_backend import Script, crash
from tests.server.fakes import Loader, make_manager
from tests.server.live import LiveServer, chat_body, chat_bytes, connect, read_all

PROMPT, ANSWER, KEY = "canary-of-the-prompt", "canary-of-the-answer", "canary-of-the-key"


@pytest.fixture(params=["text", "json"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything that is logged, at the most talkative level."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    names = ("localllm", "uvicorn", "asyncio")
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in names}
    form: LogFormat = request.param
    configure_logging("debug", form)
    yield stream
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).propagate = propagate
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_neither_prompt_nor_answer_nor_key_is_ever_logged(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens: good answers, crashes, bugs whose message quotes the prompt, bad bodies, bad keys."""
    from localllm.server.wire.chat import ChatReply

    scripts = [ANSWER, crash(ANSWER), ANSWER, crash(ANSWER), ANSWER]
    loader = Loader(scripts=tuple(scripts))
    headers = {"authorization": f"Bearer {KEY}"}
    body = chat_body(max_tokens=None) | {"messages": [{"role": "user", "content": PROMPT}]}
    with LiveServer(make_manager(loader), key_digests=(key_digest(KEY),)) as server:
        with server.client(headers=headers) as client:
            for stream in (False, True):
                assert ANSWER in client.post("/v1/chat/completions", json=body).text
                client.post("/v1/chat/completions", json=body | {"stream": stream})
            with monkeypatch.context() as patch:

                def broken(self: ChatReply, event: object) -> bytes:
                    raise KeyError(PROMPT) from ValueError(ANSWER)

                patch.setattr(ChatReply, "accept", broken)
                for stream in (False, True):
                    client.post("/v1/chat/completions", json=body | {"stream": stream})
            for bad in ({"top_p": PROMPT}, {"model": PROMPT}, {"stop": [PROMPT] * 900}, {PROMPT: 1}):
                client.post("/v1/chat/completions", json=body | bad)
            client.post("/v1/chat/completions", content=f'{{"messages": "{PROMPT}')
            client.get("/metrics")
        with server.client(headers={"x-api-key": KEY + "x"}) as client:
            assert client.get("/v1/models").status_code == 401
        with connect(server.port) as sock:
            sock.sendall(f"{PROMPT}\r\n{KEY}\r\n\r\n".encode())
            read_all(sock)
        with connect(server.port) as sock:
            sock.sendall(chat_bytes().replace(b"\r\n\r\n", f"\r\nx-api-key: {KEY}\r\n\r\n".encode()))
    text = lines.getvalue()
    assert "KeyError" in text and "/v1/chat/completions" in text
    assert [line for line in text.splitlines() if "canary" in line] == []


def test_failures_that_asyncio_reports_are_not_quoted(lines: io.StringIO) -> None:
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: ValueError(%r)", PROMPT)
    assert "never retrieved" in lines.getvalue()
    assert PROMPT not in lines.getvalue()


@pytest.mark.parametrize("path", ["/x%0A12:00:00%20info%20forged", "/x%1B%5B31mred", "/x%0D%0Aforged"])
def test_path_cannot_forge_a_line_or_colour_a_terminal(lines: io.StringIO, path: str) -> None:
    with LiveServer() as server, server.client() as client:
        assert client.get(path).status_code == 404
    text = lines.getvalue()
    assert "\x1b" not in text
    assert not any(line.startswith(("12:00:00", "forged")) for line in text.splitlines())


def test_long_path_is_cut(lines: io.StringIO) -> None:
    with LiveServer() as server, server.client() as client:
        client.get("/" + "x" * 20_000)
    if not lines.getvalue().startswith("{"):
        assert max(map(len, lines.getvalue().splitlines())) < 1000


def test_every_request_has_one_line_with_its_id_status_and_time(lines: io.StringIO) -> None:
    with LiveServer() as server, server.client() as client:
        request_id = client.post("/v1/chat/completions", json=chat_body()).headers["x-request-id"]
        assert client.get("/nothing").headers["x-request-id"] != request_id
    found = [line for line in lines.getvalue().splitlines() if request_id in line]
    assert len(found) == 1
    if found[0].startswith("{"):
        entry = json.loads(found[0])
        assert entry["status"] == 200 and entry["path"] == "/v1/chat/completions" and entry["duration_s"] >= 0
    else:
        assert "status=200" in found[0] and "path=/v1/chat/completions" in found[0]


def test_bug_is_logged_with_the_request_and_where_it_happened(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localllm.server.manager import ModelManager

    def broken(self: ModelManager, name: str | None) -> None:
        raise ZeroDivisionError

    with LiveServer() as server, server.client() as client:
        monkeypatch.setattr(ModelManager, "seek", broken)
        response = client.get("/v1/models/a")
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
    text = lines.getvalue()
    assert text.count("ZeroDivisionError:") == 1
    assert "in broken" in text
    assert f"request {response.headers['x-request-id']} failed" in text


def test_model_that_cannot_be_loaded_is_logged_by_its_reason(lines: io.StringIO) -> None:
    from localllm.errors import ModelLoadFailed

    loader = Loader(failures={"a": [ModelLoadFailed("The file is damaged.")]})
    with LiveServer(make_manager(loader)) as server, server.client() as client:
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 500
    assert "The file is damaged." in lines.getvalue()


def test_engine_errors_are_not_taken_for_bugs(lines: io.StringIO) -> None:
    loader = Loader(scripts=(Script("Hi", error=ErrorInfo("DecodeFailed", "llama_decode returned -3.", None)),))
    with LiveServer(make_manager(loader)) as server, server.client() as client:
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 500
    assert "Traceback" not in lines.getvalue() and "failed" not in lines.getvalue()
