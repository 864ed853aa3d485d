"""Writes the tables of keys in docs/tui.md from the bindings themselves: python -m tui.reference"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tui.keys import all_bindings

PATH = Path(__file__).resolve().parents[1] / "docs" / "tui.md"
BEGIN = "<!-- Written by python -m tui.reference; change the bindings, not this. -->"


def page(text: str) -> str:
    """Return docs/tui.md with its tables of keys made anew.

    Args:
        text: as it is; what stands above the mark stays.
    """
    return "\n".join([text.partition(BEGIN)[0] + BEGIN, *_tables()]) + "\n"


def _tables() -> Iterator[str]:
    for where, bindings in groupby(all_bindings({}), key=lambda bound: bound.where):
        yield from ("", f"### {where}", "", "| keys | what they do | id |", "|---|---|---|")
        for bound in bindings:
            more = f": {bound.help[:1].lower()}{bound.help[1:]}" if bound.help else ""
            keys = bound.label.replace("|", "\\|")
            yield f"| {keys} | {bound.description}{more} | `{bound.id}` |"


if __name__ == "__main__":
    PATH.write_text(page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
