"""`localllm serve` as our child: it ends with us, however we end, unless it is told to stay."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localllm.paths import ensure
from localllm.server.lifeline import STAY


class ServerChild:
    """A started server.

    Args:
        command: its command line.
        environment: the whole of it.
        log: where its lines go; what was there is replaced.

    Raises:
        OSError: it cannot be started.
        RequestError: the folder of the log cannot be made.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        ensure(log.parent)
        self.log = log
        with log.open("wb") as lines:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=lines,
                env=dict(environment),
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._popen.poll()

    def ask_to_stop(self) -> None:
        """Let running answers end, and then the server."""
        self._close_stdin()

    def leave(self) -> None:
        """Let it run on when we end."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.write(STAY)
            self._popen.stdin.flush()
        self._close_stdin()
        # Python would remember it as a child to wait for, and warn of one that nobody waited for.
        self._popen.returncode = 0

    def kill(self) -> None:
        """End it now. Its workers see that, and end too."""
        self._popen.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is gone; whether it is."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        return self.exit_code is not None

    def _close_stdin(self) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
