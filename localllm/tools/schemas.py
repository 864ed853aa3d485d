"""The arguments of a tool, as a schema that the grammar can hold a model to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from localllm.errors import InvalidGrammar, RequestError

_PLAIN_WORDS = frozenset(
    {"type", "enum", "const", "required", "description", "title", "default", "additionalProperties"}
)
_MAX_DEPTH = 32
_ANY_ARGUMENTS: dict[str, Any] = {"type": "object"}


def honoured(schema: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a schema that is enforced in full, and whether it says less than the one that was given.

    First the schema as it is; then its types and names alone; then any object. The server checks the arguments in any
    case, so what a simpler schema lets through comes back to the model as an error that it can read.
    """
    for simpler in (dict(schema), _plain(schema, 0)):
        if _is_enforced(simpler):
            return simpler, simpler != schema
    return dict(_ANY_ARGUMENTS), True


def _is_enforced(schema: Mapping[str, Any]) -> bool:
    from localllm.chat.formats.tools import parse_toolbox
    from localllm.chat.grammar import check_json_schema

    try:
        box = parse_toolbox([{"type": "function", "function": {"name": "tool", "parameters": schema}}])
        assert box is not None
        check_json_schema(json.dumps(box.tools[0].schema))
    except (InvalidGrammar, RequestError, RecursionError):
        return False
    return True


def _plain(schema: Any, depth: int) -> dict[str, Any]:
    """Return types, names and choices, and nothing else; what was a reference or a combination allows anything."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return {}
    plain = {key: value for key, value in schema.items() if key in _PLAIN_WORDS}
    if isinstance(plain.get("additionalProperties"), Mapping):
        plain["additionalProperties"] = _plain(plain["additionalProperties"], depth + 1)
    if isinstance(properties := schema.get("properties"), Mapping):
        plain["properties"] = {str(name): _plain(child, depth + 1) for name, child in properties.items()}
    if isinstance(items := schema.get("items"), Mapping):
        plain["items"] = _plain(items, depth + 1)
    return plain
