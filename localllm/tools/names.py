"""What models call the tools: names that every API takes, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

MAX_CHARS = 64
"""What OpenAI's API allows; a chat template may pass the name on to anything."""
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]+")
_N_HASH_CHARS = 8


def model_names(tools: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return "server__tool" for each (server, tool), of letters, digits, dashes and underscores.

    A name that another already has, or that is too long, ends in a digest of what it stands for, so it is the same
    whatever else there is.
    """
    found: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    for pair in tools:
        name = "__".join(_FORBIDDEN.sub("_", part) for part in pair)
        if len(name) > MAX_CHARS or name in taken:
            name = f"{name[: MAX_CHARS - _N_HASH_CHARS - 1]}_{_digest(pair)}"
        found[pair] = name
        taken.add(name)
    return found


def _digest(pair: tuple[str, str]) -> str:
    return sha256("\0".join(pair).encode("utf-8", "surrogatepass")).hexdigest()[:_N_HASH_CHARS]
