"""Whatever a server does, every check has a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from localllm.conformance.check import Check, NotApplicable, Unmet
from localllm.conformance.checks import all_checks
from localllm.conformance.target import Patience, Target
from localllm.errors import RequestError
from tests.conformance.examining import HASTY, examine
from tests.conformance.fake.server import KEY, Fake, Fault, Running

VERY_HASTY = Patience(request_s=0.2, check_s=0.3, cancel_s=0.2, silence_s=0.2)


def made(run: Callable[[Target], Awaitable[None]], name: str = "made.check") -> Check:
    return Check(name, 1, "A claim", "", run)


def raising(error: Exception) -> Check:
    async def run(target: Target) -> None:
        raise error

    return made(run)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (Unmet("five", "six"), "failed", ("five", "six", "")),
        (NotApplicable("no such model"), "skipped", ("", "", "no such model")),
        (KeyError("choices"), "failed", ("an answer of the documented shape", "KeyError: 'choices'", "")),
        (RecursionError("deep"), "failed", ("an answer of the documented shape", "RecursionError: deep", "")),
        (TimeoutError(), "failed", ("an answer", "TimeoutError", "")),
    ],
)
def test_what_a_check_raises_becomes_its_result(
    fake: Fake, url: str, error: Exception, outcome: str, words: tuple[str, str, str]
) -> None:
    result = examine(url, [raising(error)], key=KEY, patience=HASTY)["made.check"]
    assert (result.outcome, (result.expected, result.seen, result.reason)) == (outcome, words)


def test_long_answers_are_shown_on_one_short_line(fake: Fake, url: str) -> None:
    result = examine(url, [raising(Unmet("a line", "many\nlines\n" * 100))], key=KEY, patience=HASTY)["made.check"]
    assert "\n" not in result.seen and len(result.seen) <= 200


def test_a_check_that_never_ends_is_ended(fake: Fake, url: str) -> None:
    async def run(target: Target) -> None:
        await asyncio.sleep(60)

    started = time.monotonic()
    patience = Patience(request_s=2, check_s=0.3)
    results = examine(url, [made(run), made(run, "made.other")], key=KEY, patience=patience)
    assert [result.outcome for result in results.values()] == ["failed", "failed"]
    assert time.monotonic() - started < 20


def test_after_a_server_hangs_the_other_checks_fail_without_waiting(fake: Fake, url: str) -> None:
    fake.reset(Fault(flags=frozenset({"hangs"})))
    checks = all_checks()
    results = examine(url, checks, prepare=False, key=KEY, model="scripted", patience=VERY_HASTY)
    assert {result.outcome for result in results.values()} == {"failed"}
    assert results[checks[0].name].seen.startswith("ReadTimeout")
    assert results[checks[-1].name].seen == f"none since the check {checks[0].name}"


def test_nothing_but_nonsense_fails_every_check_that_does_not_skip() -> None:
    async def nonsense(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'[{"choices": 7}, "\xff"]'})

    with Running(nonsense) as url:
        results = examine(url, all_checks(), prepare=False, model="any", key=KEY, patience=HASTY)
    passed = {name for name, result in results.items() if result.outcome == "passed"}
    # What these say is true of nonsense too.
    assert passed <= {"endpoints.health", "endpoints.embeddings", "endpoints.responses", "endpoints.messages",
                      "errors.overload",
                      "safety.own_names_are_accepted", "safety.foreign_pages_may_not_read",
                      "safety.foreign_pages_may_not_ask", "safety.key_is_not_repeated"}  # fmt: skip


def test_an_endless_answer_is_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10_000):
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})

    monkeypatch.setattr("localllm.conformance.exchange.MAX_ANSWER_BYTES", 1 << 20)
    [check] = [check for check in all_checks() if check.name == "token_limits.max_tokens_whole"]
    with Running(endless) as url:
        result = examine(url, [check], prepare=False, model="any", patience=HASTY)[check.name]
    assert (result.outcome, result.expected) == ("failed", "an answer under 1 MiB")


def test_no_server_is_an_error_with_a_hint() -> None:
    with pytest.raises(RequestError, match="No server answers") as caught:
        examine("http://127.0.0.1:9", [], patience=HASTY)
    assert caught.value.hint is not None


def test_no_model_is_an_error_with_a_hint(fake: Fake, url: str) -> None:
    with pytest.raises(RequestError, match="lists no model") as caught:
        examine(url, [], key="wrong", patience=HASTY)
    assert "--key-env" in str(caught.value.hint)
