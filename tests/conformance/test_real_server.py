"""Our own server, with a real model, passes every check."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from localllm.conformance.checks import all_checks
from localllm.conformance.target import Patience
from localllm.hardware.types import LoadOptions
from localllm.llm import LLM
from localllm.runtime import open_backend
from localllm.server.manager import ModelEntry
from localllm.server.settings import key_digest
from tests.conformance.examining import described, examine
from tests.demo_model import require_demo_model
from tests.server.running import Running, serving

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


def _open(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
    return LLM(open_backend(entry.path, entry.options, in_process=False, on_progress=on_progress))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    # One thread: on a busy machine two that wait for each other are slower than one.
    options = LoadOptions(n_ctx=4096, n_threads=1)
    entry = ModelEntry(name="smollm2", path=require_demo_model(), options=options)
    with serving([entry], _open, key_digests=(key_digest(KEY),), keep_alive_s=0.2) as running:
        yield running


def test_our_server_passes_every_check(server: Running) -> None:
    patience = Patience(request_s=300, check_s=600, cancel_s=10)
    results = examine(server.url, all_checks(), key=KEY, disrupt=True, patience=patience)
    failed = described(results, "failed")
    assert {name: words for name, words in failed.items() if name not in EXPECTED_FAILURES} == {}
    assert set(EXPECTED_FAILURES) <= set(failed), "no longer fails; take it off the list"
    assert set(described(results, "skipped")) == NEEDS_A_MODEL_THAT_THINKS
