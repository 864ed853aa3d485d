"""Our own server, with a real model, passes every check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from localllm.conformance.checks import all_checks
from localllm.conformance.target import Patience
from localllm.hardware.types import LoadOptions
from localllm.llm import LLM
from localllm.runtime import open_backend
from localllm.runtime.backend import Backend
from localllm.server.manager import ModelEntry
from localllm.server.settings import key_digest
from tests.conformance.examining import described, examine
from tests.demo_model import require_demo_model
from tests.server.running import serving

KEY = "sk-of-this-test"
EXPECTED_FAILURES: dict[str, str] = {}
"""Names of checks that our server does not pass yet, and why."""
NEEDS_A_MODEL_THAT_THINKS = {
    "response_format.holds_after_thinking",
    "reasoning.both_names_whole",
    "reasoning.both_names_streamed",
    "reasoning.no_tags_in_the_answer",
    "reasoning.enable_thinking_false",
    "reasoning.reasoning_effort_none",
    "reasoning.reasoning_effort_high",
}

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800)]


# The demo model does not think, so its template begins thoughts for it, and the checks limit how long they are.
_BEGIN_THOUGHTS = (
    "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
    "{{ '<think>\\n' }}{% endif %}{# </think> #}"
)


class _Thinking:
    """A backend whose model is asked to think."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        template = (backend.info.chat_template or "") + _BEGIN_THOUGHTS
        self.info = msgspec.structs.replace(backend.info, chat_template=template)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _open(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
    return LLM(open_backend(entry.path, entry.options, in_process=False, on_progress=on_progress))


def _open_thinking(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
    backend = open_backend(entry.path, entry.options, in_process=False, on_progress=on_progress)
    return LLM(cast(Backend, _Thinking(backend)))


# One thread: on a busy machine two that wait for each other are slower than one.
_OPTIONS = LoadOptions(n_ctx=4096, n_threads=1)
_PATIENCE = Patience(request_s=300, check_s=600, cancel_s=10)


def _entry() -> ModelEntry:
    return ModelEntry(name="smollm2", path=require_demo_model(), options=_OPTIONS)


def test_our_server_passes_every_check() -> None:
    with serving([_entry()], _open, key_digests=(key_digest(KEY),), keep_alive_s=0.2) as server:
        results = examine(server.url, all_checks(), key=KEY, disrupt=True, patience=_PATIENCE)
    failed = described(results, "failed")
    assert {name: words for name, words in failed.items() if name not in EXPECTED_FAILURES} == {}
    assert set(EXPECTED_FAILURES) <= set(failed), "no longer fails; take it off the list"
    assert set(described(results, "skipped")) == NEEDS_A_MODEL_THAT_THINKS


def test_our_server_passes_what_needs_a_model_that_thinks() -> None:
    checks = [check for check in all_checks() if check.name in NEEDS_A_MODEL_THAT_THINKS]
    with serving([_entry()], _open_thinking) as server:
        results = examine(server.url, checks, patience=_PATIENCE)
    assert described(results, "failed") == described(results, "skipped") == {}
