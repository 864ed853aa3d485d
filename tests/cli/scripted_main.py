"""`localllm` with a scripted model, as a process of its own: for tests at a real (pseudo-)terminal."""

from __future__ import annotations

import sys
from typing import Any

import localllm.cli.model
from localllm.cli import main
from localllm.llm import LLM
from tests.scripted_backend import Script, ScriptedBackend


def load(ref: str | None, **options: Any) -> LLM:
    return LLM(ScriptedBackend(Script("word ", delay_s=0.005, endless=True), "Second **answer**."))


if __name__ == "__main__":
    localllm.cli.model.load = load
    sys.exit(main())
