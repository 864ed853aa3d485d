"""Sizes, times and rates as the interface writes them: short, since columns are narrow."""

from __future__ import annotations

from localllm.hardware import format_bytes

__all__ = ["format_bytes", "rate", "span"]

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def rate(tok_s: float) -> str:
    """Return tokens a second: `8.4`, `152`."""
    return f"{tok_s:.1f}" if tok_s < 100 else f"{tok_s:,.0f}"


def span(seconds: float) -> str:
    """Return a time that has passed, in one unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"
