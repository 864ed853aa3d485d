"""What a family of models has in common: how it is shown tools, how it calls them, how it thinks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from localllm.chat.formats.lark import BLANKS, Lark, either, literal
from localllm.chat.formats.parser import StreamParser, ThinkingTags
from localllm.chat.formats.tools import Toolbox
from localllm.chat.messages import Message, ToolCall

Thinking = Literal["off", "optional", "open", "inside"]
"""Whether reasoning comes first: it does not, it may, the prompt has begun it, or has begun the answer already."""


class Format(ABC):
    """The conventions of one family.

    Args:
        tags: the texts around the reasoning; None where the model does not think.
    """

    name: ClassVar[str]
    call_markers: ClassVar[tuple[str, ...]] = ()
    """The texts that mark calls, some of which are control tokens in some vocabularies."""
    is_of_template: ClassVar[bool] = True
    """Whether the model's template shows tools and calls as this format has them, if it shows them at all."""
    n_id_chars: ClassVar[int | None] = None
    """How many letters and digits the identifier of a call has; None for any text."""

    def __init__(self, tags: ThinkingTags | None = None) -> None:
        self.tags = tags

    # Reading.

    @abstractmethod
    def parser(self, toolbox: Toolbox | None, *, is_thinking: bool) -> StreamParser:
        """Return a parser of one answer."""

    def markers(self, toolbox: Toolbox | None) -> tuple[str, ...]:
        """Return the texts that the parser and the grammar need to see, if they are control tokens."""
        tags = () if self.tags is None else (self.tags.start, self.tags.end)
        return (*tags, *self.call_markers) if toolbox is not None else tags

    # Writing, for templates that cannot.

    def describe_tools(self, toolbox: Toolbox) -> str:
        """Return the system text that tells a model of its tools and how to call them."""
        tools = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in toolbox.raw)
        return (
            f"You can call functions. These are there, each described in JSON:\n<tools>\n{tools}\n</tools>\n\n"
            f"{self.instructions()}"
        )

    def instructions(self) -> str:
        """Return the sentences that tell a model how to write a call."""
        example = '{"name": <function name>, "arguments": <object of arguments>}'
        return f"To call a function, answer with nothing but\n<tool_call>\n{example}\n</tool_call>\n" + (
            "and wait for its result. Answer without a call where no function helps."
        )

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        """Return calls as the model writes them."""
        return "\n".join(f"<tool_call>\n{call_json(call)}\n</tool_call>" for call in calls)

    def write_result(self, message: Message) -> str:
        """Return the result of a call, as a user's message shows it."""
        return f"<tool_response>\n{message.text}\n</tool_response>"

    def template_kwargs(self, thinking: bool | None) -> dict[str, Any]:
        """Return what templates are told of thinking; most know one of these names."""
        return {} if thinking is None else {"enable_thinking": thinking, "thinking": thinking}

    def has_switch(self, template: str) -> bool:
        """Whether a template heeds what it is told of thinking."""
        return "thinking" in template

    def thinking_end(self) -> str:
        """Return the text that a model is made to say, or a prompt to have, at the end of the reasoning."""
        return "" if self.tags is None else f"\n{self.tags.end}\n\n"

    def empty_thinking(self) -> str:
        """Return what a prompt ends with so that the model does not think; "" where there is no such thing."""
        return "" if self.tags is None else f"{self.tags.start}\n\n{self.tags.end}\n\n"

    # Constraining.

    @abstractmethod
    def calls(self, lark: Lark, toolbox: Toolbox) -> str:
        """Return the expression of one or more calls, their markers included."""

    @abstractmethod
    def free_answer(self, lark: Lark, toolbox: Toolbox, beginnings: Sequence[str]) -> str:
        """Return the expression of free text in which calls are valid.

        Args:
            lark: the grammar being written.
            toolbox: where its mode is "none", the text has no calls.
            beginnings: terminals of what the text must not begin with.
        """

    def thinking(self, lark: Lark, state: Thinking) -> str:
        """Return the expression of the reasoning, and the blanks after it; "" where there is none."""
        if self.tags is None or state in ("off", "inside"):
            return ""
        rest = lark.up_to("thought", self.tags.end)
        if state == "open":
            return f"{rest} {BLANKS}"
        return f"({BLANKS} {lark.marker(self.tags.start)} {rest} {BLANKS})?"

    def preamble_body(self, lark: Lark, state: Thinking) -> str:
        """Return the expression of all that comes before an answer without calls."""
        return self.thinking(lark, state)

    def shape(self, lark: Lark, state: Thinking) -> str:
        """Return the expression of an unconstrained answer that thinks once at most; "" where any text does that."""
        return ""

    def answer(self, lark: Lark, schema: str) -> str:
        """Return the expression of an answer by a JSON schema, after the reasoning."""
        return lark.schema(schema)

    def preamble(self, control: Mapping[str, int], state: Thinking) -> str:
        """Return the Lark grammar of what comes before a constrained answer; "" for nothing."""
        lark = Lark(control)
        expression = self.preamble_body(lark, state)
        return lark.source(expression) if expression else ""

    def shape_grammar(self, control: Mapping[str, int], state: Thinking) -> str:
        """Return the Lark grammar that keeps a model to one stretch of reasoning; "" where it needs none."""
        lark = Lark(control)
        expression = self.shape(lark, state)
        return lark.source(expression) if expression else ""

    def grammar(self, toolbox: Toolbox, schema: str | None, control: Mapping[str, int], state: Thinking) -> str:
        """Return the Lark grammar of an answer where there are tools.

        Args:
            toolbox: the tools, and whether they must be called.
            schema: the JSON schema of an answer without calls; None is free text.
            control: the ids of the markers that are control tokens.
            state: whether reasoning comes first.

        Raises:
            InvalidGrammar: a schema cannot be enforced.
        """
        lark = Lark(control)
        thinking = self.thinking(lark, state)
        if toolbox.mode == "required":
            answer = self.calls(lark, toolbox)
        elif schema is not None:
            answer = self.answer(lark, schema)
            if toolbox.mode == "auto":
                answer = either(answer, self.calls(lark, toolbox))
        else:
            beginnings = [] if self.tags is None else [f"/\\s*/ {literal(self.tags.start)}"]
            answer = self.free_answer(lark, toolbox, beginnings)
        return lark.source(f"{thinking} {answer}")


def call_json(call: ToolCall, key: str = "arguments") -> str:
    """Return a call as one JSON object, its arguments as they were written."""
    return f'{{"name": {json.dumps(call.function.name)}, "{key}": {call.function.arguments}}}'
