"""Ctrl-C and Ctrl-D at a real pseudo-terminal."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator

import pytest

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")

CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.cli.scripted_main", *arguments]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
            os.execv(command[0], command)
        self.output = b""

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def wait_for(self, text: bytes, *, after: int = 0, timeout_s: float = 20.0) -> int:
        """Read until `text` appears after this offset; return the offset of its end."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output[after:]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.output[after:]!r}"
            self._read()
        return self.output.index(text, after) + len(text)

    def wait_for_prompt(self, *, after: int = 0) -> None:
        """Wait until it reads a line. Between the prompt and the reading, CPython's readline overlooks a signal."""
        self.wait_for(b"> ", after=after)
        time.sleep(0.3)

    def exit_code(self, timeout_s: float = 20.0) -> int:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            self._read()
        raise AssertionError(f"it still runs: {self.output!r}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def _read(self) -> None:
        if select.select([self.fd], [], [], 0.05)[0]:
            try:
                self.output += os.read(self.fd, 4096)
            except OSError:
                time.sleep(0.01)


@pytest.fixture
def chat() -> Iterator[Terminal]:
    terminal = Terminal("chat")
    yield terminal
    terminal.close()


def test_interrupt_stops_the_answer_and_the_chat_goes_on(chat: Terminal) -> None:
    chat.wait_for_prompt()
    chat.type(b"Hi\r")
    chat.wait_for(b"word word")
    chat.type(CTRL_C)
    stopped = chat.wait_for(b"(stopped)")
    chat.wait_for_prompt(after=stopped)
    chat.type(b"Again\r")
    told = chat.wait_for(b"tok/s", after=stopped)
    assert b"**" not in chat.output[stopped:told].rpartition(b"Second")[2]
    chat.wait_for_prompt(after=told)
    chat.type(CTRL_D)
    assert chat.exit_code() == 0


def test_two_interrupts_at_the_prompt_leave(chat: Terminal) -> None:
    chat.wait_for_prompt()
    chat.type(CTRL_C)
    end = chat.wait_for(b"leaves.")
    chat.wait_for_prompt(after=end)
    chat.type(CTRL_C)
    assert chat.exit_code() == 0
    assert b"Traceback" not in chat.output


def test_interrupt_ends_run_with_130() -> None:
    terminal = Terminal("run", "Hi")
    try:
        terminal.wait_for(b"word word")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        assert b"Traceback" not in terminal.output
    finally:
        terminal.close()
