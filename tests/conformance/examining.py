"""Running checks against a server, in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from localllm.conformance.check import Check, Result
from localllm.conformance.runner import run_checks
from localllm.conformance.target import Patience, Target, TargetOptions

HASTY = Patience(request_s=5, check_s=10, cancel_s=0.6, silence_s=0.25)


def examine(url: str, checks: Sequence[Check], *, prepare: bool = True, **options: Any) -> dict[str, Result]:
    """Return the result of each check by its name."""

    async def run() -> list[Result]:
        target = Target(TargetOptions(url=url, **options))
        try:
            if prepare:
                await target.prepare()
            return await run_checks(target, checks)
        finally:
            await target.close()

    return {result.check.name: result for result in asyncio.run(run())}


def described(results: dict[str, Result], outcome: str) -> dict[str, str]:
    """Return the names of the checks that ended so, with what they say."""
    return {
        name: f"expected {result.expected}; saw {result.seen}" if outcome == "failed" else result.reason
        for name, result in results.items()
        if result.outcome == outcome
    }
