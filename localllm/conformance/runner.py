"""Runs checks one after the other, whatever the server does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import anthropic
import httpx
import openai

from localllm.conformance.check import Check, NotApplicable, Result, Unmet, shown
from localllm.conformance.forcing import HELLO
from localllm.conformance.target import Target

_SILENT = (TimeoutError, httpx.HTTPError, openai.APIConnectionError, anthropic.APIConnectionError, OSError)
_REFUSED = (openai.APIStatusError, anthropic.APIStatusError)


async def run_checks(
    target: Target, checks: Sequence[Check], on_result: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Run the checks and return what became of each. Nothing that a server does is raised.

    When the server has stopped answering at all, what is left fails without waiting for it.

    Args:
        target: prepared.
        checks: in the order to run.
        on_result: called after each.
    """
    results: list[Result] = []
    dead_since = ""
    for check in checks:
        if dead_since:
            result = Result(check, "failed", "a server that answers", f"none since the check {dead_since}")
        else:
            result, was_silent = await _run(target, check)
            if was_silent and not await _is_alive(target):
                dead_since = check.name
        results.append(result)
        on_result(result)
    return results


async def _run(target: Target, check: Check) -> tuple[Result, bool]:
    """Return the result, and whether the server was silent."""
    started = time.monotonic()

    def result(outcome: Any, **words: str) -> Result:
        return Result(check, outcome, **words, duration_s=time.monotonic() - started)

    try:
        async with asyncio.timeout(target.patience.check_s):
            await check.run(target)
    except Unmet as unmet:
        return result("failed", expected=unmet.expected, seen=unmet.seen), False
    except NotApplicable as skip:
        return result("skipped", reason=shown(str(skip))), False
    except _REFUSED as refused:
        return result(
            "failed", expected="HTTP 200", seen=shown(f"HTTP {refused.status_code}: {refused.message}")
        ), False
    except _SILENT as silent:
        return result("failed", expected="an answer", seen=_words(silent)), True
    except Exception as nonsense:
        return result("failed", expected="an answer of the documented shape", seen=_words(nonsense)), False
    return result("passed"), False


async def _is_alive(target: Target) -> bool:
    try:
        async with asyncio.timeout(target.patience.request_s):
            await target.post_chat(HELLO, max_tokens=1)
    except _SILENT:
        return False
    return True


def _words(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}".rstrip(": "))
