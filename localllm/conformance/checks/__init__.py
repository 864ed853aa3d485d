"""The checks, a module for each point, in the order of the points."""

from __future__ import annotations

from collections.abc import Collection

from localllm.conformance.check import Check
from localllm.conformance.checks import (
    agents,
    anthropic_api,
    disconnects,
    embeddings,
    endpoints,
    errors,
    logprobs,
    messages,
    overflow,
    parameters,
    reasoning,
    response_format,
    responses_api,
    safety,
    stream_shape,
    token_limits,
    tool_choice,
    tool_deltas,
    usage,
)

_MODULES = (
    stream_shape,
    tool_deltas,
    tool_choice,
    token_limits,
    response_format,
    logprobs,
    parameters,
    messages,
    reasoning,
    overflow,
    errors,
    usage,
    embeddings,
    disconnects,
    agents,
    anthropic_api,
    responses_api,
    endpoints,
    safety,
)


def all_checks(points: Collection[int] | None = None) -> list[Check]:
    """Return every check, or those of some points, in the order of the points."""
    found = [value for module in _MODULES for value in vars(module).values() if isinstance(value, Check)]
    return sorted((c for c in found if points is None or c.point in points), key=lambda c: c.point)
