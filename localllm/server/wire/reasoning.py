"""How much a model shall think, as clients say it."""

from __future__ import annotations

from typing import Any

_NONE = ("none", "minimal")
_HIGHEST = ("xhigh", "max")


def effort_options(effort: str | None) -> dict[str, Any]:
    """Return the options of `LLM.achat` for an effort such as "low".

    Templates that know efforts know low, medium and high; what is above is high.
    """
    if effort is None:
        return {}
    known = "high" if effort in _HIGHEST else effort
    return {"thinking": effort not in _NONE, "template_kwargs": {"reasoning_effort": known}}
