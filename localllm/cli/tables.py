"""Columns, sizes and counts as the command line prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(rows: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> Iterator[str]:
    """Yield rows with their columns aligned; those in `right` to the right, and the last one not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def size(n_bytes: int) -> str:
    """Return bytes in the unit that fits: `488.34 MiB`."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.2f} {name}"
    return f"{n_bytes} B"


def count(n: int) -> str:
    """Return a count in the unit that fits: `1.54 B`, `134.52 M`."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n >= unit:
            return f"{n / unit:.2f} {name}"
    return str(n)


def duration(seconds: float) -> str:
    """Return a time that has passed, in one unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"


def cut(line: str, width: int) -> str:
    """Return a line that is at most `width` characters wide, with … for what is left out, after a whole word."""
    if len(line) <= width:
        return line
    kept = line[: max(width - 1, 0)]
    words = kept.rpartition(" ")[0].rstrip()
    return (words if len(words) > width * 2 // 3 else kept) + "…"
