"""The points that the checks are grouped by: what API clients rely on and local servers commonly get wrong."""

from __future__ import annotations

POINTS: dict[int, str] = {
    1: "Shape of streams",
    2: "Tool-call deltas",
    3: "Tool choice",
    4: "Token limits",
    5: "Response format",
    6: "Logprobs",
    7: "Sampling parameters",
    8: "Messages",
    9: "Reasoning",
    10: "Context overflow",
    11: "Errors",
    12: "Usage",
    13: "Embeddings",
    14: "Disconnects and silence",
    15: "Agents",
    16: "Anthropic's Messages API",
    17: "OpenAI's Responses API",
    18: "Endpoints",
    19: "Safety",
}
"""Number to title."""
