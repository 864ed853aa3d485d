"""Markdown that may still grow, as lines of a width: no widgets, so that thousands of messages cost nothing."""

from __future__ import annotations

from tui.markdown.document import Document
from tui.markdown.line import Line

__all__ = ["Document", "Line"]
