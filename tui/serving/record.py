"""Which server was left running, so that the next start finds it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from localllm.paths import data_dir, ensure

_SAME_S = 2.0
"""A process that began within this of what is written down is the one that was meant."""


@dataclass(frozen=True)
class ServerRecord:
    """A server that runs by itself. Its key is not kept."""

    pid: int
    created_s: float
    """When its process began, by the clock: ids of processes are used again."""
    url: str
    log: str

    def is_running(self) -> bool:
        """Whether the process still is."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created_s) < _SAME_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def stop(self) -> None:
        """Ask it to end; its running answers may end first."""
        import psutil

        if self.is_running():
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).terminate()


def record_of(pid: int, url: str, log: Path) -> ServerRecord | None:
    """Describe a process; None if it is gone."""
    import psutil

    try:
        return ServerRecord(pid, psutil.Process(pid).create_time(), url, str(log))
    except psutil.Error:
        return None


def keep(record: ServerRecord) -> None:
    """Write it down.

    Raises:
        RequestError: the folder cannot be made.
        OSError: the file cannot be written.
    """
    file = _file()
    ensure(file.parent)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
    partial.replace(file)


def find() -> ServerRecord | None:
    """Return the server that was left running, if it still runs."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        record = ServerRecord(int(found["pid"]), float(found["created_s"]), str(found["url"]), str(found["log"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if record.is_running():
        return record
    forget()
    return None


def forget() -> None:
    """There is none any more."""
    with contextlib.suppress(OSError):
        _file().unlink()


def _file() -> Path:
    return data_dir() / "server.json"
