"""The command line of a server, and what is refused before it starts."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from localllm.config import API_KEY_VARIABLE
from localllm.errors import RequestError
from tui.serving import request as module
from tui.serving.request import ServeRequest, check_port, new_key


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_the_key_is_in_the_environment_and_not_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "of-somebody-else")
    asked = ServeRequest(models=("a", "b=/m/b.gguf"), key="secret", origins=("https://x.example",), n_ctx=512)
    assert "secret" not in " ".join(asked.command)
    assert asked.environment[API_KEY_VARIABLE] == "secret"
    assert API_KEY_VARIABLE not in replace(asked, key="").environment
    words = " ".join(asked.command)
    assert "serve a b=/m/b.gguf --lifeline" in words
    assert "--cors-origin https://x.example" in words
    assert "--n-ctx 512" in words
    assert "--preload" not in words
    assert "--preload" in replace(asked, preload=True).command


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 0}, "The port is 0"),
        ({"port": 70000}, "The port is 70000"),
        ({"n_slots": 0}, "0 answers at once"),
        ({"n_ctx": 0}, "The context is 0"),
        ({"key": "two\nlines"}, "The key has characters"),
        ({"host": "0.0.0.0"}, "0.0.0.0 can be reached from other machines"),
        ({"host": "203.0.113.7", "key": "k"}, "Cannot listen on 203.0.113.7"),
    ],
)
def test_what_cannot_work_is_refused_before(changes: dict[str, object], message: str) -> None:
    asked = replace(ServeRequest(port=free_port()), **changes)  # type: ignore[arg-type]
    with pytest.raises(RequestError) as caught:
        asked.check()
    assert message in caught.value.message


def test_a_good_request_passes_and_knows_its_address() -> None:
    port = free_port()
    ServeRequest(port=port).check()
    assert ServeRequest(port=port).base_url == f"http://127.0.0.1:{port}"
    assert ServeRequest(host="0.0.0.0", port=port).base_url == f"http://127.0.0.1:{port}"


def test_a_busy_port_is_named() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(RequestError, match=f"Port {port} is busy"):
            check_port("127.0.0.1", port)


def test_missing_packages_are_said_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("no_such_package",))
    with pytest.raises(RequestError) as caught:
        ServeRequest().check()
    assert caught.value.hint == 'Install them: pip install "localllm[server]"'


def test_keys_differ() -> None:
    assert len({new_key() for _ in range(8)}) == 8
    assert all(len(key) > 30 for key in (new_key(), new_key()))
    assert new_key().isprintable()
