"""Identifiers of calls, for formats in which the model gives none."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def new_call_id(n_chars: int | None = None) -> str:
    """Return a new identifier: `n_chars` letters and digits, or "call_" and 24 of them."""
    if n_chars is None:
        return f"call_{new_call_id(24)}"
    return "".join(secrets.choice(_ALPHABET) for _ in range(n_chars))
