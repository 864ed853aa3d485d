"""The text that models are measured on if nobody names one."""

from __future__ import annotations

from importlib.resources import files

DEFAULT_NAME = "alice"


def default_text() -> str:
    """Return chapters I to V of "Alice's Adventures in Wonderland" by Lewis Carroll, 1865: public domain, 58 kB.

    Models have read it, so perplexities on it are low; what it is good for is the difference of two settings.
    """
    return files(__package__).joinpath(f"{DEFAULT_NAME}.txt").read_text(encoding="utf-8")
