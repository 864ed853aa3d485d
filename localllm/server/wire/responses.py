"""OpenAI's Responses API: the body of POST /v1/responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from localllm.server.errors import BadRequest
from localllm.server.wire.base import SamplingFields, WireModel
from localllm.server.wire.pieces import MISSING
from localllm.server.wire.reasoning import effort_options
from localllm.server.wire.response_items import Item, chat_messages
from localllm.server.wire.volatile import steady

LOGPROBS = "message.output_text.logprobs"
SEALED_REASONING = "reasoning.encrypted_content"


class TextFormat(WireModel):
    """What form the text of the answer has."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class TextConfig(WireModel):
    """How the text of the answer shall be."""

    format: TextFormat | None = None
    verbosity: str | None = None


class Reasoning(WireModel):
    """How much the model thinks, and whether the client wants to see it as a summary."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = Field(default=None, description="The older name of `summary`.")


class Tool(WireModel):
    """A function that the client runs."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedChoice(WireModel):
    """One tool, or some of them, that shall be called."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[dict[str, Any]] | None = None


class ResponsePrompt(WireModel):
    """What the model reads: the fields that counting its tokens needs."""

    input: str | list[dict[str, Any]] | None = None
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def messages(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Return the conversation in the shape of OpenAI's chat.

        Args:
            items: of the whole conversation, in full.

        Raises:
            BadRequest: it is empty, or the request wants a conversation that is kept elsewhere.
        """
        if self.conversation is not None:
            raise BadRequest(
                "conversation is not supported.",
                param="conversation",
                hint="Use previous_response_id, or send all items.",
            )
        if self.truncation == "auto":
            raise BadRequest(
                "truncation 'auto' is not supported: nothing is left out of a conversation.",
                param="truncation",
                hint="Leave it out, and shorten the input when it is too long.",
            )
        if not items:
            raise BadRequest("input is empty.", param="input")
        return steady(chat_messages(self.instructions, items))

    def tool_options(self) -> dict[str, Any]:
        """Return the options of `LLM.achat` for tools; none without tools.

        Raises:
            BadRequest: a tool is not the client's own, or the choice names one that is not there.
        """
        tools = [_chat_tool(tool, f"tools.{i}") for i, tool in enumerate(self.tools or [])]
        if isinstance(self.tool_choice, NamedChoice):
            return _chosen(self.tool_choice, tools)
        if not tools:
            if self.tool_choice == "required":
                raise BadRequest("tool_choice demands a tool, and there are no tools.", param="tool_choice")
            return {}
        return {"tools": tools} | ({"tool_choice": self.tool_choice} if self.tool_choice is not None else {})


class ResponseRequest(ResponsePrompt, SamplingFields):
    """The body of POST /v1/responses."""

    stream: bool | None = False
    store: bool | None = True
    background: bool | None = None
    include: list[str] | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    max_tool_calls: int | None = None
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    prompt: Any = Field(None, description="A prompt that OpenAI keeps; not here.")
    prompt_cache_key: str | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    text: TextConfig | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    user: str | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of `LLM.achat`.

        Raises:
            BadRequest: fields that contradict each other, or cannot be honoured.
        """
        if self.background:
            raise BadRequest("background is not supported.", param="background", hint="Stream the answer instead.")
        if self.prompt is not None:
            raise BadRequest("prompt is not supported.", param="prompt", hint="Send instructions and input.")
        options = self.sampling_options() | self._format_options() | self.tool_options()
        if self.max_output_tokens is not None:
            options["max_tokens"] = self.max_output_tokens
        if "tools" in options and self.parallel_tool_calls is not None:
            options["parallel_tool_calls"] = self.parallel_tool_calls
        if self.wants_logprobs:
            options["logprobs"] = self.top_logprobs or 0
        return options | effort_options(self.reasoning.effort if self.reasoning is not None else None)

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.top_logprobs) or LOGPROBS in (self.include or [])

    @property
    def seals_reasoning(self) -> bool:
        """Whether the client carries reasoning from turn to turn without showing it."""
        return SEALED_REASONING in (self.include or [])

    @property
    def summarizes(self) -> bool:
        """Whether reasoning is shown as its summary. It is the whole of it: nothing is left out."""
        return self.reasoning is not None and bool(self.reasoning.summary or self.reasoning.generate_summary)

    @property
    def keeps(self) -> bool:
        """Whether the response can be asked for later."""
        return self.store is not False

    def echo(self) -> dict[str, Any]:
        """Return what a response repeats of its request."""
        reasoning = self.reasoning or Reasoning()
        text = self.text.format if self.text is not None and self.text.format is not None else TextFormat()
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "previous_response_id": self.previous_response_id,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_logprobs": self.top_logprobs or 0,
            "tools": [tool.model_dump(exclude_none=True) for tool in self.tools or []],
            "tool_choice": choice.model_dump(exclude_none=True)
            if isinstance(choice, NamedChoice)
            else choice or "auto",
            "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary},
            "text": {"format": text.model_dump(exclude_none=True, by_alias=True)},
            "truncation": "disabled",
            "store": self.keeps,
            "background": False,
            "service_tier": "default",
            "user": self.user,
            "safety_identifier": self.safety_identifier,
            "prompt_cache_key": self.prompt_cache_key,
        }

    def _format_options(self) -> dict[str, Any]:
        form = self.text.format if self.text is not None else None
        if form is None or form.type == "text":
            return {}
        if form.type == "json_object":
            return {"json_object": True}
        if form.schema_ is None:
            raise BadRequest("text.format.schema: Field required.", param="text.format.schema")
        return {"json_schema": form.schema_}


def _chat_tool(tool: Tool, at: str) -> dict[str, Any]:
    if tool.type != "function":
        raise BadRequest(
            f"{at}.type: {tool.type[:80]!r} tools are not supported.", param=f"{at}.type", hint=MISSING["hosted"]
        )
    if not tool.name:
        raise BadRequest(f"{at}.name: Field required.", param=f"{at}.name")
    fields = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in fields.items() if value is not None}}
    return {"type": "function", "function": function}


def _chosen(choice: NamedChoice, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the options for a choice of one tool, or of some of them."""
    if choice.type == "function":
        _find(choice.name, tools)
        return {"tools": tools, "tool_choice": {"type": "function", "function": {"name": choice.name}}}
    if choice.type == "allowed_tools":
        allowed = [_find(tool.get("name"), tools) for tool in choice.tools or []]
        if not allowed:
            raise BadRequest("tool_choice.tools is empty.", param="tool_choice.tools", hint="Say none instead.")
        return {"tools": allowed, "tool_choice": choice.mode or "auto"}
    raise BadRequest(
        f"tool_choice.type: {choice.type[:80]!r} is not supported.", param="tool_choice.type", hint=MISSING["hosted"]
    )


def _find(name: Any, tools: list[dict[str, Any]]) -> dict[str, Any]:
    found = next((tool for tool in tools if tool["function"]["name"] == name), None)
    if found is None:
        raise BadRequest(f"tool_choice: there is no tool {str(name)[:80]!r}.", param="tool_choice")
    return found
