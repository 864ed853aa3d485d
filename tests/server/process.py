"""A real server, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.demo_model import require_demo_model

START_S = 60


@contextmanager
def serving(*arguments: str, name: str = "small", **environment: str) -> Iterator[str]:
    """Run `localllm serve` with the demo model for as long as the block runs.

    Args:
        arguments: more of the command line.
        name: what the model is called.
        environment: more of it.

    Returns:
        The server's address, on a free port.
    """
    command = [sys.executable, "-m", "localllm", "serve", f"{name}={require_demo_model()}", "--port", "0", *arguments]
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
