"""The options of a generation, as fields of a request to a remote; what its kind of server does not take is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from localllm.errors import RequestError
from localllm.llm.options import parse_options
from localllm.remotes import Engine

_NEUTRAL: dict[str, Any] = {
    "context_policy": "error",
    "n_sink": 4,
    "cache_prompt": True,
    "ignore_eos": False,
    "stop": [],
    "logprobs": False,
    "json_object": False,
    "continue_final_message": False,
    "add_generation_prompt": True,
}
"""Values that ask for what every server does anyway."""
_FORBIDDEN = -100.0
"""OpenAI's bias for a token that must not come."""
_TEMPLATE = ("thinking", "template_kwargs")


def fields_of(options: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """Return the fields of a request's body that carry these options. What is None is left to the server.

    Raises:
        RequestError: an option is unknown or out of bounds, or this kind of server does not take it.
        InvalidGrammar: as `parse_options`.
    """
    parse_options(options)
    given = {name: value for name, value in options.items() if value is not None and value != _NEUTRAL.get(name)}
    fields: dict[str, Any] = {}
    if template := _template_kwargs(given, engine):
        fields["chat_template_kwargs"] = template
    for name, value in given.items():
        if name == "json_schema":
            schema = json.loads(value) if isinstance(value, str) else value
            fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        elif name == "json_object":
            fields["response_format"] = {"type": "json_object"}
        elif name not in _TEMPLATE:
            field = engine.field_of(name)
            if field is None:
                raise _not_taken(name, engine)
            fields[field] = _wire_value(name, value)
    return fields


def _template_kwargs(given: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    for name in _TEMPLATE:
        if name in given and not engine.takes_template_kwargs:
            raise _not_taken(name, engine)
    # Families of templates have two names for the switch, and each ignores the other.
    switch = {"enable_thinking": given["thinking"], "thinking": given["thinking"]} if "thinking" in given else {}
    return {**switch, **given.get("template_kwargs", {})}


def _wire_value(name: str, value: Any) -> Any:
    if name == "logit_bias":
        return {str(token): _FORBIDDEN if math.isinf(bias) else bias for token, bias in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _not_taken(name: str, engine: Engine) -> RequestError:
    kind = "an engine of unknown kind" if not engine.extra else engine.name
    return RequestError(f"{name} cannot be asked of {kind}.", hint="Leave it out, or set it where the engine starts.")
