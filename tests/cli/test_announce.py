"""What `localllm serve` says when it is ready."""

from __future__ import annotations

import logging
import webbrowser

import pytest

from localllm.cli.announce import announce, open_browser
from localllm.server.settings import ServerSettings, key_digest


def test_people_are_told_the_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    announce(ServerSettings(port=8099), ["small"], as_json=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "serves small" in err
    assert "http://127.0.0.1:8099/v1" in err
    assert "only this machine" in err


def test_key_is_never_said(capsys: pytest.CaptureFixture[str]) -> None:
    announce(ServerSettings(key_digests=(key_digest("secret"),)), ["small"], as_json=False)
    err = capsys.readouterr().err
    assert "key   needed" in err
    assert "secret" not in err


def test_open_server_is_said_to_be_open(capsys: pytest.CaptureFixture[str]) -> None:
    announce(ServerSettings(host="0.0.0.0", allow_open=True), ["small"], as_json=False)
    assert "everybody who can reach it" in capsys.readouterr().err


def test_programs_get_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("localllm"), "propagate", True)
    with caplog.at_level(logging.INFO, "localllm.server"):
        announce(ServerSettings(port=8099), ["small"], as_json=True)
    assert capsys.readouterr().err == ""
    assert caplog.records[-1].__dict__["fields"]["url"] == "http://127.0.0.1:8099"


def test_without_a_screen_no_terminal_browser_takes_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("threading.Thread.start", lambda thread: thread.run())
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    open_browser("http://127.0.0.1:8080")
    assert opened == []
    assert "http://127.0.0.1:8080" in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":0")
    open_browser("http://127.0.0.1:8080")
    assert opened == ["http://127.0.0.1:8080"]
