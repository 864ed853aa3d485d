"""Our server, as a user starts it: `localllm serve` in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence

import psutil
from ours import Settings

_START_S = 120.0


class OurServer:
    """A running server with one model, loaded.

    Args:
        settings: the model, its context, slots and threads.
        more: more arguments for `localllm serve`.
    """

    def __init__(self, settings: Settings, more: Sequence[str] = ()) -> None:
        flags = {
            "--port": 0,
            "--n-ctx": settings.n_ctx,
            "--slots": settings.n_slots,
            "--threads": settings.n_threads,
            "--kv-type": settings.kv_type,
            "--gpu-layers": 0,
        }
        command = [
            sys.executable,
            "-m",
            "localllm",
            "serve",
            f"m={settings.path}",
            "--preload",
            "--log-level",
            "warning",
        ]
        command += [str(part) for pair in flags.items() for part in pair]
        self.process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.log: list[str] = []
        self.port = 0
        self._ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._ready.wait(_START_S)
        if not self.port:
            self.close()
            raise RuntimeError("the server did not start: " + " | ".join(self.log[-5:]))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            self.log = [*self.log[-1000:], line]
            if found := re.search(r"API +http://[^/ ]*:(\d+)/v1", line):
                self.port = int(found[1])
                self._ready.set()
        self._ready.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_bytes(self) -> tuple[int, int]:
        """Return the resident memory of the server and of its workers."""
        server = psutil.Process(self.process.pid)
        return server.memory_info().rss, sum(child.memory_info().rss for child in server.children())

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def __enter__(self) -> OurServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
