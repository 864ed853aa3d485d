"""What the server refuses to be told, and whom it lets in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from localllm.errors import RequestError
from localllm.server.serving import bound_socket, check_tls
from localllm.server.settings import ServerSettings, key_digest


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "example.org", "0", "127.0.0.1.evil.example"])
def test_public_address_without_a_key_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="no API key"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, allow_open=True).host == host
    assert ServerSettings(host=host, key_digests=(key_digest("k"),)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert ServerSettings(host=host).is_local


def test_certificate_without_key_is_refused() -> None:
    with pytest.raises(RequestError, match="certificate"):
        ServerSettings(tls_cert=Path("cert.pem"))


def test_tls_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "not.pem").write_text("This is not a certificate.")
    for name in ("missing.pem", "not.pem"):
        path = tmp_path / name
        with pytest.raises(RequestError, match=name):
            check_tls(ServerSettings(tls_cert=path, tls_key=path))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.0.0.1:99", "127.3.2.1", "[::1]", "[::1]:8080"],
)
def test_names_of_this_machine_are_accepted(host: str) -> None:
    assert ServerSettings().accepts_host(host)


def test_this_machines_own_name_is_accepted() -> None:
    assert ServerSettings().accepts_host(f"{socket.gethostname()}:8080")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost.example",
        "",
        ":8080",
        "0.0.0.0:8080",
        "10.0.0.1",
        "[::]",
        "[fe80::1]",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "2130706433",
        "0x7f.1",
    ],
)
def test_names_that_could_be_rebound_are_refused(host: str) -> None:
    assert not ServerSettings().accepts_host(host)


def test_public_server_answers_to_addresses_and_to_names_that_are_allowed() -> None:
    settings = ServerSettings(host="0.0.0.0", allow_open=True, allowed_hosts=("Box.lan",))
    assert all(settings.accepts_host(host) for host in ("192.168.1.5:8080", "[fe80::1]:80", "box.LAN:8080"))
    assert not settings.accepts_host("evil.example")


def test_keys_are_kept_as_digests_only() -> None:
    settings = ServerSettings(key_digests=(key_digest("secret-canary"), key_digest("other")))
    assert "secret-canary" not in repr(settings)
    assert settings.accepts_key("secret-canary") and settings.accepts_key("other")
    assert not any(settings.accepts_key(key) for key in (None, "", "secret", "secret-canary ", "SECRET-CANARY"))


def test_every_known_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[bytes] = []
    real = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return real(a, b)

    monkeypatch.setattr("localllm.server.settings.hmac.compare_digest", counting)
    digests = tuple(key_digest(key) for key in ("first", "second", "third"))
    settings = ServerSettings(key_digests=digests)
    for key in ("first", "third", "wrong"):
        compared.clear()
        settings.accepts_key(key)
        assert tuple(compared) == digests


def test_taken_port_is_an_error_with_a_hint() -> None:
    with bound_socket(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=str(port)) as caught:
            bound_socket(ServerSettings(port=port))
    assert "--port" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "a" * 300, "bad..name"])
def test_address_that_is_not_this_machines_is_an_error(host: str) -> None:
    with pytest.raises(RequestError, match="Cannot listen"):
        bound_socket(ServerSettings(host=host, port=0, allow_open=True))


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8080"), ("::", "http://[::1]:8080"), ("0.0.0.0", "http://127.0.0.1:8080")],
)
def test_base_url_is_one_that_can_be_opened_here(host: str, url: str) -> None:
    assert ServerSettings(host=host, allow_open=True).base_url == url
