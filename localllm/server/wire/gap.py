"""A gap in a text, which a model shall fill."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.llm.infill import Snippet


@dataclass
class Gap:
    """What is around a gap, and what had to be left out of it."""

    prefix: str
    suffix: str
    extra: tuple[Snippet, ...] = ()
    is_cut: bool = False
    """Leave out what does not fit, instead of refusing it."""
    n_dropped: int = 0
    """Tokens left out; known once the prompt was made."""
