"""A real server in a process of its own, and Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.demo_model import require_demo_model

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
START_S = 60


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[str]:
    """Run `localllm serve` with the demo model on a free port for as long as the block runs; gives its address."""
    command = [sys.executable, "-m", "localllm", "serve", f"small={require_demo_model()}", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        assert process.stderr is not None
        lines: list[str] = []
        found = None
        while found is None:
            lines.append(process.stderr.readline())
            assert lines[-1], f"the server did not start: {lines}"
            found = re.search(r"page +(http://\S+)", lines[-1])
        timer.cancel()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[1]
    finally:
        timer.cancel()
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("--n-ctx", "2048", LOCALLLM_HOME=str(tmp_path_factory.mktemp("served"))) as url:
        yield url


def chromium_path() -> str:
    """Return Chromium's path, or skip the test."""
    path = os.environ.get("LOCALLLM_TEST_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="install the browser extra")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a context of its own. A script that fails, or that the policy forbids, fails the test."""
    contexts, problems = [], []

    def opened(url: str, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1100, "height": 760}, **options})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: "Security Policy" in message.text and problems.append(message.text))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
