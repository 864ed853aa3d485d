"""Ollama's ways of writing times, durations and sizes."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

API_VERSION = "0.12.11"
"""The version of Ollama whose API this is. Clients compare it with the least that they need."""
FOR_EVER_S = 100 * 365.25 * 86_400
"""What Ollama's clients show as "Forever"."""

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: Any) -> float:
    """Return seconds: of a number, or of a text like "5m" or "1h30m"; math.inf for anything negative.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be seconds, or a text like 5m")
    if isinstance(value, str):
        value = _seconds(value.strip())
    if value < 0 or value > FOR_EVER_S:
        return math.inf
    if math.isnan(value):
        raise ValueError("must be seconds, or a text like 5m")
    return float(value)


def _seconds(text: str) -> float:
    sign = -1.0 if text.startswith("-") else 1.0
    digits = text[1:] if text[:1] in ("+", "-") else text
    if re.fullmatch(r"\d+(\.\d*)?", digits):
        return sign * float(digits)
    parts = _PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        raise ValueError(f"{text[:40]!r} is no duration; write seconds, or a text like 5m")
    return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds; math.inf is for ever."""


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def timestamp(moment: datetime) -> str:
    """Return a moment as Ollama writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def now() -> str:
    return timestamp(datetime.now(UTC))


def parameter_size(n_params: int) -> str:
    """Return a number of parameters as people say it: "134.5M", "7.6B"."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n_params >= unit:
            return f"{n_params / unit:.1f}{letter}"
    return str(n_params)


def tagged(name: str) -> str:
    """Return a model's name with a tag, which Ollama's clients expect in lists."""
    return name if ":" in name else f"{name}:latest"
