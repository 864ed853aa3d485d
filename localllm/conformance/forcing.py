"""Requests whose answers do not depend on how clever the model is.

A JSON schema with one possible value, a tool that must be called, a bias no token can beat, a prompt of random words:
what comes back then tells of the server alone.
"""

from __future__ import annotations

import secrets
from typing import Any

from localllm.conformance.exchange import Json

HELLO = "Say hello."
COUNT = "Count from 1 to 200, separated by commas."

EMOJI = "naïve 😀🎉 日本語 🏳️‍🌈 end"
"""Characters of two, three and four bytes, and a cluster of several."""

BIASED_TOKEN = 1000
"""An id that every vocabulary has."""
FORCED_TOKEN = {"logit_bias": {str(BIASED_TOKEN): 100}}
"""One token again and again, and never the end of the answer."""

COLOURS = ("teal", "ochre", "mauve")


def object_schema(**properties: Any) -> Json:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def schema_format(schema: Any, name: str = "answer") -> Json:
    """Return a response_format."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def only(text: str) -> Json:
    """Return the fields that allow one answer: {"text": TEXT}."""
    return {"response_format": schema_format(object_schema(text={"type": "string", "enum": [text]}))}


def tool(name: str, description: str, **properties: Any) -> Json:
    """Return a tool in OpenAI's shape."""
    function = {"name": name, "description": description, "parameters": object_schema(**properties)}
    return {"type": "function", "function": function}


PAINT = tool("paint_wall", "Paint a wall in a colour.", colour={"type": "string", "enum": list(COLOURS)})
LONG_NOTE = "The quick brown fox jumps over the lazy dog, and then it rests under the old oak tree until the evening."
NOTE = tool("save_note", "Save a note.", text={"type": "string", "enum": [LONG_NOTE]})
TOOLS = [PAINT, NOTE]


def named(function: str) -> Json:
    """Return the tool_choice that names a function."""
    return {"type": "function", "function": {"name": function}}


def user(content: Any) -> Json:
    """Return a user's message."""
    return {"role": "user", "content": content}


def text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def conversation_with_result(call_id: str, result_id: str | None, result: str = "Done.") -> list[Json]:
    """Return a conversation in which a tool was called and has answered."""
    function = {"name": "paint_wall", "arguments": '{"colour": "teal"}'}
    return [
        {"role": "user", "content": "Paint the wall."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": result_id, "content": result},
    ]


def random_words(count: int) -> str:
    """Return words that no prompt before had, so that nothing of them can be cached; at least a token each."""
    return " ".join(secrets.token_hex(2) for _ in range(count))


def filler(n_tokens: int) -> str:
    """Return a text of at least so many tokens, and not many more."""
    return " hello" * n_tokens
