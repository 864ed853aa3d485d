"""What the screen of models says of sizes, counts and times; what files and hubs say is made harmless here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.hardware.sizes import format_bytes

if TYPE_CHECKING:
    from tui.downloads import Download

NOTHING = "–"
"""Where a value is not known, or means nothing."""
_MAX_NAME = 200
_N_BAR = 12
_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


def clean(text: str, limit: int = _MAX_NAME) -> str:
    """Return what a file or a hub says, as one line without control characters."""
    from localllm.gguf import printable

    return printable(text, limit)


def size_text(n_bytes: int | None, *, is_rough: bool = False) -> str:
    """Return "4.7 GiB", or "~4.7 GiB" for a guess."""
    if not n_bytes:
        return NOTHING
    return ("~" if is_rough else "") + format_bytes(n_bytes)


def count_text(n: int | None) -> str:
    """Return "1.5B", "135M", "35.1K"."""
    if not n:
        return NOTHING
    unit, name = next(((unit, name) for unit, name in _UNITS if n >= unit), (1, ""))
    return f"{n / unit:.3g}{name}"


def context_text(n_ctx: int | None) -> str:
    """Return "32K", as people call powers of two; what is no multiple of 1024 in full."""
    if not n_ctx:
        return NOTHING
    return f"{n_ctx >> 10}K" if n_ctx % 1024 == 0 else f"{n_ctx:,}"


def speed_text(tok_s: float | None) -> str:
    return NOTHING if tok_s is None else f"{tok_s:.3g}"


def duration_text(seconds: float) -> str:
    """Return "12 s", "5 min", "3 h"."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def share_text(share: float) -> str:
    """Return "43 %"."""
    return f"{int(share * 100)} %"


def bar(share: float, n_cells: int = _N_BAR) -> str:
    """Return how far something is, as a bar of that many cells."""
    n_full = round(share * n_cells)
    return "█" * n_full + "░" * (n_cells - n_full)


def download_text(download: Download) -> str:
    """Return one line on how far a download is."""
    came = format_bytes(download.n_done_bytes)
    if download.n_total_bytes:
        came += f" of {format_bytes(download.n_total_bytes)}"
    bits = [f"{bar(download.share)} {share_text(download.share)}" if download.share is not None else "", came]
    match download.phase:
        case "fetching":
            bits += [f"{format_bytes(int(download.bytes_s))}/s" if download.bytes_s > 0 else "waiting"]
            bits += [f"{duration_text(download.left_s)} left" if download.left_s is not None else "", download.note]
        case "paused":
            bits += ["paused"]
        case "failed":
            bits += [f"failed: {download.error} {download.error.hint or ''}".rstrip()] if download.error else ["failed"]
        case "done":
            bits = [came, "done"]
    return " · ".join(filter(None, bits))
