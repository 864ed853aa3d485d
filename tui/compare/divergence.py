"""The divergence of two models along an answer, computed by a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from localllm.errors import LocalLLMError, WorkerCrashed

if TYPE_CHECKING:
    from localllm.workshop.answer_divergence import AnswerDivergence, AnswerJob

_MODULE = "localllm.workshop.answer_divergence"


@dataclass(frozen=True)
class DivergenceState:
    """What is known of it."""

    phase: Literal["none", "computing", "done", "undefined"] = "none"
    found: AnswerDivergence | None = None
    reason: str = ""
    """Why there is none."""

    @property
    def line(self) -> str:
        """What is said of it."""
        if self.phase == "computing":
            return "KL divergence: both models read A's answer…"
        if self.found is None:
            return self.reason
        kl = self.found.kl
        same = sum(self.found.same_top) / len(kl)
        return (
            f"KL(A‖B) on A's answer: mean {sum(kl) / len(kl):.4f}, max {max(kl):.3f} nats"
            f" · same first choice {same:.0%}"
        )

    @property
    def facts(self) -> dict[str, Any] | None:
        """What is kept of it."""
        if self.found is None:
            return None
        kl = self.found.kl
        return {"mean": sum(kl) / len(kl), "max": max(kl), "n_tokens": len(kl)}


async def measure(job: AnswerJob) -> AnswerDivergence:
    """Compare two files along an answer. Cancelling ends the process.

    Raises:
        LocalLLMError: the models cannot be compared, or the process ended.
    """
    import msgspec

    from localllm.workshop.answer_divergence import AnswerOutcome

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", _MODULE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        start_new_session=os.name == "posix",
    )
    try:
        said, _ = await process.communicate(msgspec.json.encode(job))
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        outcome = msgspec.json.decode(said, type=AnswerOutcome)
    except msgspec.DecodeError:
        raise WorkerCrashed(
            f"The process that compares the models ended (code {process.returncode}).", hint="Try a shorter answer."
        ) from None
    if outcome.error is not None:
        raise outcome.error.to_error()
    assert outcome.found is not None
    return outcome.found


def why_not(error: LocalLLMError) -> DivergenceState:
    """Return the state of a divergence that could not be computed."""
    return DivergenceState("undefined", reason=f"KL divergence: {error.message} {error.hint or ''}".strip())
