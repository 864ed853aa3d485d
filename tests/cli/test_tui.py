"""`localllm` alone and `localllm tui`: when the interface opens, and what is said when it cannot."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localllm.cli.tui import can_open
from tests.cli.conftest import Cli


def in_terminal(*arguments: str, keys: bytes, environ: dict[str, str], limit_s: float = 60) -> tuple[int, bytes]:
    """Run localllm in a terminal, press keys once something is drawn, and return its exit code and what it wrote."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "localllm", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, **environ},
        start_new_session=True,
    )
    os.close(terminal)
    written, pressed = b"", False
    end = time.monotonic() + limit_s
    try:
        while time.monotonic() < end:
            try:
                data = os.read(controller, 65536)
            except OSError:
                break
            written += data
            if not pressed and b"F7 Settings" in written:
                os.write(controller, keys)
                pressed = True
        return process.wait(timeout=10), written
    finally:
        process.kill()
        os.close(controller)


def test_alone_in_a_terminal_it_opens_and_ctrl_q_ends_it(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "welcomed").touch()
    code, written = in_terminal(keys=b"\x11", environ={"TERM": "xterm-256color", "PYTHONUTF8": "1"})
    assert code == 0
    assert b"F2 Chat" in written and b"Traceback" not in written


def test_a_terminal_that_cannot_move_its_cursor_is_told_so() -> None:
    code, written = in_terminal(keys=b"", environ={"TERM": "dumb"})
    assert code == 6
    assert b"cannot move its cursor" in written and b"localllm chat" in written


def test_another_encoding_than_utf_8_is_told_of() -> None:
    environ = {"TERM": "xterm", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    code, written = in_terminal("tui", keys=b"", environ=environ)
    assert code == 6
    assert b"encoding" in written and b"C.UTF-8" in written


def test_without_a_terminal_alone_is_help_and_tui_is_an_error(cli: Cli) -> None:
    assert not can_open()
    assert cli().out.startswith("Usage:")
    result = cli("tui")
    assert (result.code, result.out) == (6, "")
    assert "needs a terminal" in result.err


def test_web_without_its_packages_says_how_to_get_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tui.web", None)
    result = cli("tui", "--web")
    assert result.code == 6
    assert 'pip install "localllm[web]"' in result.err


@pytest.mark.parametrize(
    ("host", "who"), [("127.0.0.1", "Whoever uses this computer"), ("0.0.0.0", "Every machine that reaches this port")]
)
def test_web_says_where_it_is_and_who_can_open_it(
    cli: Cli, host: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.web.GuardedServer.serve", lambda self: None)
    result = cli("tui", "--web", "--host", host, "--port", "8123")
    assert result.code == 0
    assert ":8123" in result.err and who in result.err


def test_a_port_that_is_taken_is_told_of(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(self: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("tui.web.GuardedServer.serve", taken)
    result = cli("tui", "--web")
    assert result.code == 6
    assert "port 8000: Address already in use" in result.err and "--port" in result.err
