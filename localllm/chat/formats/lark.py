"""Writing Lark grammars for llguidance, which enforce what a family's calls look like.

llguidance cuts text into lexemes deterministically: where free text and a call may begin alike, free text must exclude
what a call begins with. A control token is a lexeme of its own, which no text contains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from localllm.chat.schema import JSON_OPTIONS, checked_schema

ANY = "/(?s:.*)/"
BLANKS = r"/\s{0,4}/"
SPACE = "/ ?/"


def literal(text: str) -> str:
    """Return a terminal of `text` itself."""
    return json.dumps(text)


def quoted(text: str) -> str:
    """Return a terminal of `text` between double quotes, as a JSON string of it is spelled."""
    return literal(f'"{text}"')


class Lark:
    """A grammar being written.

    Args:
        control: the ids of those markers that are control tokens of the vocabulary.
    """

    def __init__(self, control: Mapping[str, int]) -> None:
        self._control = control
        self._definitions: dict[str, str] = {}
        self._schemas: dict[str, str] = {}

    def define(self, name: str, body: str) -> str:
        """Define a rule (lower case) or a terminal (upper case), and return its name."""
        self._definitions[name] = body
        return name

    def is_control(self, marker: str) -> bool:
        """Whether `marker` is a control token."""
        return marker in self._control

    def marker(self, text: str) -> str:
        """Return what matches a marker: its control token, or its text."""
        token = self._control.get(text)
        return literal(text) if token is None else f"<[{token}]>"

    def schema(self, schema: Mapping[str, Any] | str) -> str:
        """Return the rule of the JSON that a schema describes.

        Raises:
            InvalidGrammar: the schema cannot be enforced.
        """
        text = checked_schema(schema if isinstance(schema, str) else json.dumps(schema))
        if text not in self._schemas:
            body = json.dumps({"x-guidance": JSON_OPTIONS, **json.loads(text)})
            self._schemas[text] = self.define(f"json_{len(self._schemas)}", f"%json {body}")
        return self._schemas[text]

    def text_without(self, name: str, *, beginnings: Iterable[str] = (), within: Iterable[str] = ()) -> str:
        """Define the terminal of any text but one that begins, or contains, what the given terminals match."""
        body = ANY
        body += "".join(f" & ~({beginning} {ANY})" for beginning in beginnings)
        body += "".join(f" & ~({ANY} {inner} {ANY})" for inner in within)
        return self.define(name, body)

    def up_to(self, name: str, marker: str, text: str = ANY) -> str:
        """Define the rule of the text up to the first `marker`, and the marker."""
        if self.is_control(marker):
            return self.define(name, f"{text} {self.marker(marker)}")
        return self.define(f"{name}[lazy]", f"{text} {self.marker(marker)}").removesuffix("[lazy]")

    def source(self, start: str) -> str:
        """Return the grammar whose start is `start`."""
        lines = [f"start: {start}", *(f"{name}: {body}" for name, body in self._definitions.items())]
        return "\n".join(lines) + "\n"


def either(*choices: str) -> str:
    """Return an expression of one of `choices`."""
    return choices[0] if len(choices) == 1 else "(" + " | ".join(choices) + ")"
