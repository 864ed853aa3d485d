"""JSON schemas of growing difficulty, seeded, and some that no grammar can enforce."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Schema = dict[str, Any]

_NAMES = ("name", "city", "age", "kind", "tags", "price", "when", "note", "id", "parts", "size", "owner")
_WORDS = ("red", "green", "blue", "small", "large", "näive", "日本", 'a "quoted" one', "back\\slash", "🙂")
_PATTERNS = (
    r"^[A-Z]{2,4}-\d{3}$",
    r"^(yes|no|perhaps)$",
    r"^\+?\d{1,3}( \d{2,4}){1,3}$",
    r"^[a-z]+(\.[a-z]+){0,2}@[a-z]{2,8}\.(com|org)$",
    r"^#[0-9a-f]{6}$",
    r"^v\d+\.\d+(\.\d+)?$",
)
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")

UNSUPPORTED: list[Schema] = [
    {"not": {"type": "string"}},
    {"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"type": "integer"}},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    {"type": "array", "contains": {"type": "integer"}},
    {"type": "object", "propertyNames": {"pattern": "^[a-z]$"}},
    {"type": "object", "dependentRequired": {"a": ["b"]}},
    {"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}},
    {"type": "object", "unevaluatedProperties": False},
    {"type": "array", "unevaluatedItems": False},
    {"$dynamicRef": "#node"},
    {"$ref": "https://example.com/schema.json"},
    {"$ref": "#/$defs/missing"},
    {"type": "nonsense"},
    {"type": "string", "pattern": "(?=lookahead)x"},
    {"type": "string", "format": "no-such-format"},
    {"type": "integer", "minimum": 5, "maximum": 3},
    {"enum": []},
    {"type": "string", "minLength": 5, "maxLength": 2},
]
"""Schemas with a keyword that cannot be enforced, or that nothing satisfies: each must be refused."""


def generate(n: int, seed: int = 0) -> list[Schema]:
    """Return `n` schemas; the first are a single value, the last nested, recursive and full of alternatives."""
    rng = np.random.default_rng(seed)
    return [_Maker(rng, level=1 + 9 * i // n).schema() for i in range(n)]


class _Maker:
    """Makes one schema.

    Args:
        rng: its source of chance.
        level: 1 to 9; deeper and wider with each.
    """

    def __init__(self, rng: np.random.Generator, level: int) -> None:
        self._rng = rng
        self._level = level
        self._defs: dict[str, Schema] = {}

    def schema(self) -> Schema:
        depth = 0 if self._level <= 2 else min(1 + self._level // 3, 3)
        schema = self._object(depth) if depth else self._leaf()
        if self._level >= 8 and self._rng.random() < 0.5:
            schema["properties"]["tree"] = self._tree()
        return schema | ({"$defs": self._defs} if self._defs else {})

    def _any(self, depth: int) -> Schema:
        kinds: list[Callable[[], Schema]] = [self._leaf]
        if depth > 0:
            kinds += [lambda: self._object(depth - 1), lambda: self._array(depth - 1)]
            if self._level >= 5:
                kinds += [lambda: self._choice(depth - 1), lambda: self._reference(depth - 1)]
            if self._level >= 7:
                kinds += [lambda: self._tuple(depth - 1), lambda: self._map(depth - 1)]
        return kinds[int(self._rng.integers(len(kinds)))]()

    def _leaf(self) -> Schema:
        kinds = [self._enum, self._integer, self._text, lambda: {"type": "boolean"}, lambda: {"const": self._word()}]
        if self._level >= 2:
            kinds += [self._number, self._pattern, self._format, lambda: {"type": ["string", "null"], "maxLength": 12}]
        return kinds[int(self._rng.integers(len(kinds)))]()

    def _object(self, depth: int) -> Schema:
        n = int(self._rng.integers(1, 2 + min(self._level, 5)))
        names = [str(name) for name in self._rng.permutation(_NAMES)[:n]]
        properties = {name: self._any(depth - 1) for name in names}
        required = [name for name in names if self._rng.random() < 0.75]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _array(self, depth: int) -> Schema:
        low = int(self._rng.integers(0, 3))
        return {
            "type": "array",
            "items": self._any(depth),
            "minItems": low,
            "maxItems": low + int(self._rng.integers(0, 3)),
        }

    def _tuple(self, depth: int) -> Schema:
        n = int(self._rng.integers(1, 4))
        return {
            "type": "array",
            "prefixItems": [self._any(depth) for _ in range(n)],
            "items": False,
            "minItems": n,
        }

    def _map(self, depth: int) -> Schema:
        return {
            "type": "object",
            "patternProperties": {r"^[a-z]{1,6}$": self._any(depth)},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 2,
        }

    def _choice(self, depth: int) -> Schema:
        options = [
            {
                "type": "object",
                "properties": {"type": {"const": f"kind{i}"}, "value": self._any(depth)},
                "required": ["type", "value"],
                "additionalProperties": False,
            }
            for i in range(int(self._rng.integers(2, 4)))
        ]
        return {"anyOf": [*options, {"type": "null"}]}

    def _reference(self, depth: int) -> Schema:
        name = f"part{len(self._defs)}"
        self._defs[name] = {}
        self._defs[name] = self._any(depth)
        return {"$ref": f"#/$defs/{name}"}

    def _tree(self) -> Schema:
        self._defs["node"] = {
            "type": "object",
            "properties": {
                "value": self._integer(),
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value", "children"],
            "additionalProperties": False,
        }
        return {"$ref": "#/$defs/node"}

    def _word(self) -> str:
        return str(self._rng.choice(_WORDS))

    def _enum(self) -> Schema:
        values: list[Any] = [str(word) for word in self._rng.permutation(_WORDS)[: int(self._rng.integers(1, 5))]]
        return {"enum": [*values, 7, None] if self._level >= 3 else values}

    def _integer(self) -> Schema:
        low = int(self._rng.integers(-1000, 1000))
        schema = {"type": "integer", "minimum": low, "maximum": low + int(self._rng.integers(0, 2000))}
        if self._level >= 4 and self._rng.random() < 0.3:
            schema = {"type": "integer", "minimum": 0, "maximum": 1000, "multipleOf": int(self._rng.choice((2, 5, 10)))}
        return schema

    def _number(self) -> Schema:
        low = round(float(self._rng.uniform(-50, 50)), 2)
        return {"type": "number", "exclusiveMinimum": low, "maximum": round(low + float(self._rng.uniform(1, 100)), 2)}

    def _text(self) -> Schema:
        low = int(self._rng.integers(0, 6))
        return {"type": "string", "minLength": low, "maxLength": low + int(self._rng.integers(1, 20))}

    def _pattern(self) -> Schema:
        return {"type": "string", "pattern": str(self._rng.choice(_PATTERNS))}

    def _format(self) -> Schema:
        return {"type": "string", "format": str(self._rng.choice(_FORMATS))}
