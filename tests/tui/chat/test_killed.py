"""kill -9 of the app: nothing that was typed or received more than a second ago is lost."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.conversations import ConversationStore
from tests.demo_model import require_demo_model
from tui.first_run import mark_welcomed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")

QUESTION = "Write a very long story about the sea and all who live in it."
REPOSITORY = Path(__file__).parents[3]
_SCRIPTED = """
from localllm.config import load_settings
from tests.scripted_backend import Script
from tests.tui.driving import ScriptedModels
from tui.app import LocalLLM

models = ScriptedModels()
models.say(Script("la ", endless=True, delay_s=0.005))
LocalLLM(load_settings({"model": "scripted"}), open_llm=models).run()
"""
_REAL = """
from tui.app import LocalLLM

LocalLLM().run()
"""


class Terminal:
    """The app in a terminal of its own."""

    def __init__(self, program: str, home: Path) -> None:
        self.shown = b""
        self._master, slave = pty.openpty()
        ours = {"LOCALLLM_HOME": str(home), "TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **ours}, cwd=REPOSITORY, start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self, condition: Callable[[], object], limit_s: float = 60.0) -> None:
        """Read what the app shows until something is so."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, self.shown[-2000:]
            if select.select([self._master], [], [], 0.05)[0]:
                self.shown += os.read(self._master, 65536)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.kill()
        os.close(self._master)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[str], Terminal]]:
    mark_welcomed()
    started: list[Terminal] = []

    def begin(program: str) -> Terminal:
        started.append(Terminal(program, home))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.close()


def received(home: Path) -> str:
    """Return what another process finds of the last answer."""
    store = ConversationStore.open(home / "data" / "conversations.db")
    try:
        conversations = store.conversations()
        path = store.path(conversations[0].id) if conversations else []
        return path[-1].text if len(path) == 2 else ""
    finally:
        store.close()


def kept(home: Path, terminal: Terminal) -> tuple[str, str]:
    """Kill the app in the middle of an answer, with something typed, more than a second after `before` was received.

    Returns `before`, and what is there of the answer.
    """
    terminal.wait(lambda: b"Write a message" in terminal.shown)
    terminal.type(f"{QUESTION}\r")
    terminal.wait(lambda: len(received(home)) > 20)
    terminal.type("and dance")
    before, began_s = received(home), time.monotonic()
    terminal.wait(lambda: time.monotonic() - began_s > 1.5)
    terminal.kill()
    store = ConversationStore.open(home / "data" / "conversations.db")
    conversation = store.conversations()[0]
    question, answer = store.path(conversation.id)
    store.close()
    assert question.text == QUESTION and answer.state == "interrupted"
    assert conversation.draft == "and dance"
    return before, answer.text


def test_a_killed_app_loses_less_than_a_second(start: Callable[[str], Terminal], home: Path) -> None:
    before, after = kept(home, start(_SCRIPTED))
    assert after.startswith(before) and len(after) > len(before)


@pytest.mark.real
def test_a_killed_app_with_the_demo_model(start: Callable[[str], Terminal], home: Path) -> None:
    require_demo_model()
    before, after = kept(home, start(_REAL))
    assert after.startswith(before)
