"""The command line in this process, over a scripted backend."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from localllm.cli.app import app
from localllm.cli.errors import guarded
from localllm.llm import LLM
from tests.scripted_backend import Script, ScriptedBackend


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass
class Cli:
    """Runs commands; `loads` are the arguments of every load."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    backend: ScriptedBackend = field(default_factory=ScriptedBackend)
    loads: list[dict[str, Any]] = field(default_factory=list)
    load_error: Exception | None = None

    def says(self, *scripts: Script | str, **info: object) -> ScriptedBackend:
        """Choose the answers of the model that is loaded next."""
        self.backend = ScriptedBackend(*scripts, **info)
        return self.backend

    def load(self, ref: str | None, *, on_progress: Callable[[float], None], **options: object) -> LLM:
        if self.load_error is not None:
            raise self.load_error
        self.loads.append({"ref": ref, **options})
        on_progress(0.5)
        return LLM(self.backend)

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run `localllm` with arguments; a stdin of None is a terminal where nobody types."""
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        self.monkeypatch.setattr(stream, "isatty", lambda: stdin is None)
        self.monkeypatch.setattr(sys, "stdin", stream)
        code = guarded(lambda: app.main([*arguments], prog_name="localllm", standalone_mode=False))
        out, err = self.capsys.readouterr()
        return Result(code, out, err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    made = Cli(capsys, monkeypatch)
    monkeypatch.setattr("localllm.cli.model.load", made.load)
    return made
