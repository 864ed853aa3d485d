"""The installed command and the demo model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from localllm.errors import ModelNotFound
from localllm.store import demo_model

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def demo() -> None:
    try:
        demo_model()
    except ModelNotFound:
        pytest.skip("the demo model is not installed")


def localllm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    # On a busy machine, threads that wait for each other take many times as long as one.
    command = [sys.executable, "-m", "localllm", arguments[0], "--threads", "1", *arguments[1:]]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, encoding="utf-8", timeout=120)


def test_run_answers_and_tells_its_speed() -> None:
    done = localllm("run", "--stats", "--n-ctx", "512", "--max-tokens", "8", "--seed", "1", "Say hello.")
    assert done.returncode == 0 and done.stdout.strip()
    assert "tok/s" in done.stderr and done.stderr.count("\n") == 1


def test_seed_makes_answers_repeatable() -> None:
    flags = ("run", "--json", "--n-ctx", "512", "--max-tokens", "12", "--seed", "7", "Tell a story.")
    first, second = (json.loads(localllm(*flags).stdout) for _ in range(2))
    assert first["text"] == second["text"]
    assert first["usage"]["completion_tokens"] <= 12


def test_chat_reuses_the_conversation_so_far() -> None:
    done = localllm("chat", "--n-ctx", "512", "--max-tokens", "8", "--temperature", "0", stdin="Hello.\nAnd you?\n")
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert "· 0 reused" in first and "· 0 reused" not in second


def test_overlong_prompt_exits_with_its_own_code() -> None:
    done = localllm("run", "--n-ctx", "256", "word " * 400)
    assert done.returncode == 7
    assert done.stderr.startswith("error: ") and "hint: " in done.stderr
