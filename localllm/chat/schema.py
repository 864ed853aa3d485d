"""JSON schemas, checked for what the grammar compiler would pass over in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from localllm.errors import InvalidGrammar

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_GRAMMAR_CHARS = 1 << 20

_WHITESPACE = r" |\n{1,2}[ \t]{0,20}"
"""At most one of these between two tokens of JSON, as in llama.cpp: small models emit blanks for ever."""
JSON_OPTIONS: JsonCompileOptions = {
    "whitespace_flexible": True,
    "whitespace_pattern": _WHITESPACE,
    "lenient": False,
    "coerce_one_of": False,
}
"""How the compiler reads JSON schemas."""

_WITH_SCHEMA = frozenset({"additionalItems", "additionalProperties", "items"})
_WITH_SCHEMAS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_WITH_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_ENFORCED_WORDS = """
    $anchor $id $ref $schema const enum exclusiveMaximum exclusiveMinimum format id maxItems maxLength
    maxProperties maximum minItems minLength minProperties minimum multipleOf pattern required type
"""
_ANNOTATION_WORDS = """
    $comment contentEncoding contentMediaType contentSchema default deprecated description discriminator
    example examples externalDocs nullable propertyOrdering readOnly strict title writeOnly xml
"""
_ENFORCED = _WITH_SCHEMA | _WITH_SCHEMAS | _WITH_NAMED_SCHEMAS | frozenset(_ENFORCED_WORDS.split())
_ANNOTATIONS = frozenset(_ANNOTATION_WORDS.split())


def checked_schema(text: str) -> str:
    """Return a JSON schema as text, ready to compile.

    Raises:
        InvalidGrammar: it is not JSON, not a schema, or has a keyword that could not be enforced.
    """
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise InvalidGrammar("The JSON schema is nested too deeply.", hint="Flatten it.") from error
    except ValueError as error:
        raise InvalidGrammar(f"The JSON schema is not JSON: {error}.", hint="Pass a JSON object.") from error
    if schema is True:
        return "{}"
    if not isinstance(schema, dict):
        raise InvalidGrammar(
            "The JSON schema is not an object, so it allows nothing.",
            hint='Pass one such as {"type": "object"}.',
        )
    try:
        _check(schema, "$")
    except RecursionError as error:
        raise InvalidGrammar("The JSON schema is nested too deeply.", hint="Flatten it.") from error
    # Without "$schema" and "$id" the compiler takes the newest draft and looks nothing up.
    return json.dumps({key: value for key, value in schema.items() if key not in ("$schema", "$id", "id")})


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key not in _ENFORCED and key not in _ANNOTATIONS and not _is_extension(key):
            raise InvalidGrammar(
                f"The JSON schema has {key!r} at {where}, which cannot be enforced.",
                hint="Leave it out, or say the same with other keywords.",
            )
        if key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            raise InvalidGrammar(
                f"The JSON schema has a boolean {key!r} at {where}, as in draft 4.",
                hint=f"Give {key!r} the bound itself, as in newer drafts.",
            )
        _check_below(key, value, f"{where}.{key}")


def _check_below(key: str, value: Any, where: str) -> None:
    if key in _WITH_NAMED_SCHEMAS and isinstance(value, dict):
        for name, child in value.items():
            _check(child, f"{where}.{name}")
    elif key in _WITH_SCHEMAS and isinstance(value, list):
        for index, child in enumerate(value):
            _check(child, f"{where}[{index}]")
    elif key in _WITH_SCHEMA:
        _check(value, where)


def _is_extension(key: str) -> bool:
    # "x-guidance" would change the compiler's own settings.
    return key.startswith("x-") and key != "x-guidance"
