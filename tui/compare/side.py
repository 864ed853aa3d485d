"""One of the two that are compared: which model, how it is asked, and how far it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localllm.errors import LocalLLMError, RequestError

Phase = Literal["idle", "waiting", "loading", "answering", "done", "stopped", "failed"]

MAX_TOKENS = 512
"""Of an answer, where the options do not say."""


@dataclass(frozen=True)
class Side:
    """A model and the options it is asked with."""

    ref: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SideState:
    """How far one side is."""

    phase: Phase = "idle"
    share: float = 0.0
    """How much of it is loaded, 0 to 1."""
    text: str = ""
    reasoning: str = ""
    n_tokens: int = 0
    ttft_s: float = 0.0
    tok_s: float = 0.0
    error: LocalLLMError | None = None

    @property
    def line(self) -> str:
        """What is said below its answer."""
        match self.phase:
            case "idle":
                return ""
            case "waiting":
                return "waits for the other one: both do not fit in memory"
            case "loading":
                return f"loading, {self.share:.0%}"
            case "answering":
                return "answering" if self.text or self.reasoning else "reading the question"
            case "failed":
                assert self.error is not None
                return f"{self.error.message} {self.error.hint or ''}".strip()
        ending = "stopped · " if self.phase == "stopped" else ""
        return f"{ending}{self.n_tokens:,} tokens · {self.tok_s:.1f} tok/s · first {self.ttft_s:.2f} s"


def parse_options(text: str) -> dict[str, Any]:
    """Return the options that "temperature=0 seed=1" means.

    Raises:
        RequestError: a word is no option, or a value is not allowed.
    """
    from localllm.llm.options import parse_options as check

    options: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RequestError(f"The options cannot be read: {error}.", hint="Write temperature=0 seed=1") from error
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise RequestError(f"{word} is no option.", hint="Write temperature=0 seed=1")
        options[name] = _value(value)
    check(options)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
