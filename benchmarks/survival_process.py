"""The processes of survival.py: started, asked, ended well or badly; and the folder they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from localllm.paths import HOME_VARIABLE

_WAIT_S = 120.0
_POLL_S = 0.0005


@dataclass(frozen=True)
class Conversation:
    """Token ids: the first turn, what the next one adds after the answer, and prompts of others."""

    prompt: list[int]
    more: list[int]
    others: list[list[int]]


@dataclass(frozen=True)
class Settings:
    """What all processes have in common; `home` is theirs alone."""

    model: Path
    home: Path
    kv_type: str
    n_threads: int
    n_answer: int

    @property
    def folder(self) -> Path:
        """Where all models' prefixes lie."""
        return self.home / "cache" / "kv"

    def files(self, suffix: str) -> list[Path]:
        return sorted(self.folder.glob(f"*/*{suffix}"))

    def clear(self) -> None:
        """Delete all that was saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Process:
    """A driver in a process of its own; leaving the block ends it as a program ends."""

    def __init__(self, settings: Settings, *, store: bool = True, kv_type: str | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name("survival_driver.py")), str(settings.model)]
        command += ["--kv-type", kv_type or settings.kv_type, "--threads", str(settings.n_threads)]
        command += [] if store else ["--store-bytes", "0"]
        self._errors = (settings.home / "errors.txt").open("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {HOME_VARIABLE: str(settings.home)},
            text=True,
        )
        self._read()

    def ask(self, prompt: list[int], n_tokens: int) -> dict[str, Any]:
        """Have one prompt answered."""
        return self.ask_all([prompt], n_tokens)[0]

    def ask_all(self, prompts: list[list[int]], n_tokens: int) -> list[dict[str, Any]]:
        """Have several answered at once."""
        self._write({"prompts": prompts, "n_tokens": n_tokens})
        answers: list[dict[str, Any]] = self._read()
        return answers

    @property
    def messages(self) -> str:
        """What it has said on standard error."""
        return Path(self._errors.name).read_text()

    def kill(self, delay_s: float) -> None:
        """End it after so long with SIGKILL, which no process can see coming."""
        until = time.perf_counter() + delay_s
        while time.perf_counter() < until:
            pass
        self._process.kill()
        self._end()

    def close(self) -> None:
        """End it as a program ends: what is kept is saved."""
        if self._process.poll() is None:
            self._write({"close": True})
            self._process.wait(_WAIT_S)
        self._end()

    def _end(self) -> None:
        self._process.communicate()
        self._errors.close()

    def _write(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver ended: {self.messages}")
        return json.loads(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close() if error is None else self.kill(0.0)


def wait_for_save(settings: Settings) -> float:
    """Return when a process began to write; time.perf_counter."""
    return _wait_until(lambda: bool(settings.files(".partial") or settings.files(".kv")))


def measure_save(settings: Settings, hold: Callable[[Process], None]) -> float:
    """Return how many seconds a process writes what `hold` has it keep."""
    with Process(settings) as process:
        hold(process)
        began = wait_for_save(settings)
        return _wait_until(lambda: bool(settings.files(".kv"))) - began


def _wait_until(condition: Callable[[], bool]) -> float:
    deadline = time.perf_counter() + _WAIT_S
    while not condition():
        if time.perf_counter() > deadline:
            raise RuntimeError("nothing is saved")
        time.sleep(_POLL_S)
    return time.perf_counter()
