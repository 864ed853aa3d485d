"""The engine: continuous batching over one llama.cpp context. It knows token ids only.

`Engine` is imported on first use: a front end whose model lives in a worker process needs the records alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localllm.engine.events import (
    ErrorInfo,
    Event,
    FinishEvent,
    PrefillProgress,
    PrefixReuse,
    Speculation,
    Timings,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.request import GenerationRequest, SamplingParams
from localllm.engine.stats import EngineStats

if TYPE_CHECKING:
    from localllm.engine.engine import Engine

__all__ = [
    "Engine",
    "EngineStats",
    "ErrorInfo",
    "Event",
    "FinishEvent",
    "GenerationRequest",
    "PrefillProgress",
    "PrefixReuse",
    "SamplingParams",
    "Speculation",
    "StopCondition",
    "Timings",
    "TokenConstraint",
    "TokenEvent",
    "TokenLogprob",
    "Usage",
]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from localllm.engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
