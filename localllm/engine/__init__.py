"""The engine: continuous batching over one llama.cpp context. It knows token ids only."""

from localllm.engine.engine import Engine
from localllm.engine.events import (
    ErrorInfo,
    Event,
    FinishEvent,
    PrefillProgress,
    Timings,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from localllm.engine.matchers import StopCondition, TokenConstraint
from localllm.engine.request import GenerationRequest, SamplingParams
from localllm.engine.stats import EngineStats

__all__ = [
    "Engine",
    "EngineStats",
    "ErrorInfo",
    "Event",
    "FinishEvent",
    "GenerationRequest",
    "PrefillProgress",
    "SamplingParams",
    "StopCondition",
    "Timings",
    "TokenConstraint",
    "TokenEvent",
    "TokenLogprob",
    "Usage",
]
