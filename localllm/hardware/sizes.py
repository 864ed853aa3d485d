"""Byte counts as people read them."""

from __future__ import annotations

MIB = 1024**2
GIB = 1024**3


def format_bytes(n_bytes: int) -> str:
    """Return `n_bytes` with one decimal in the largest binary unit that keeps it at 1 or more: "21.4 GiB"."""
    if abs(n_bytes) < 1024:
        return f"{n_bytes} B"
    value = n_bytes / 1024
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        # 1023.96 prints as 1024.0, so it already belongs to the next unit.
        if abs(value) < 1023.95:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"
