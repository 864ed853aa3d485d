"""Sizes and times as the workshop's screen says them."""

from __future__ import annotations


def size(n_bytes: float) -> str:
    """Return bytes in the unit that fits: `105 MB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}" if n_bytes < 1000 * unit else f"{n_bytes / unit:,.0f} {name}"
    return f"{n_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return a time: `12 s`, `5 min`, `1 h 20 min`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 10 and rest else f"{round(minutes / 60)} h"
