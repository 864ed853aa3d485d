"""Numbers in tables and in JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.evaluate import Estimate

NOTHING = "–"
"""Stands in a table where there is no number."""


def estimate(found: Estimate, form: str) -> str:
    """Return a value with its standard error, both in this format: `0.0311 ± 0.0010`."""
    return f"{found.value:{form}} ± {found.standard_error:{form}}"


def json_text(facts: Any) -> str:
    """Return JSON; a number that is not finite is null."""
    return json.dumps(_finite(facts), ensure_ascii=False, indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
