"""A server that does everything right passes every check."""

from __future__ import annotations

from localllm.conformance.checks import all_checks
from tests.conformance.examining import HASTY, described, examine
from tests.conformance.fake.server import KEY, Fake

_OF_THINKING = {
    "response_format.holds_after_thinking",
    "reasoning.both_names_whole",
    "reasoning.both_names_streamed",
    "reasoning.no_tags_in_the_answer",
    "reasoning.enable_thinking_false",
    "reasoning.reasoning_effort_none",
    "reasoning.reasoning_effort_high",
}


def test_good_server_passes_everything_that_applies(fake: Fake, url: str) -> None:
    results = examine(url, all_checks(), key=KEY, disrupt=True, patience=HASTY)
    assert described(results, "failed") == {}
    assert set(described(results, "skipped")) == _OF_THINKING


def test_good_server_with_a_thinking_model_passes_everything_that_applies(fake: Fake, url: str) -> None:
    fake.reset(thinks=True)
    results = examine(url, all_checks(), key=KEY, disrupt=True, patience=HASTY)
    assert described(results, "failed") == {}
    assert described(results, "skipped") == {}
