"""Anthropic's Messages API: the bodies of POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from localllm.server.errors import BadRequest
from localllm.server.wire.base import SamplingFields, WireModel
from localllm.server.wire.blocks import Blocks, InputMessage, chat_messages, text_parts
from localllm.server.wire.pieces import MISSING
from localllm.server.wire.reasoning import effort_options
from localllm.server.wire.volatile import steady


class Tool(WireModel):
    """A tool that the client runs."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(WireModel):
    """Whether tools must, may or may not be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(WireModel):
    """Whether the model thinks before it answers, and how long."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1)
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(WireModel):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(WireModel):
    """How the answer shall be."""

    effort: str | None = None
    format: OutputFormat | None = None


class Prompt(WireModel):
    """What the model reads: what both bodies have."""

    messages: list[InputMessage] = Field(min_length=1)
    model: str | None = None
    system: Blocks | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    def chat_messages(self) -> list[dict[str, Any]]:
        """Return the conversation in the shape of OpenAI's chat.

        Raises:
            BadRequest: what it says cannot be honoured.
        """
        parts = text_parts(self.system, "system") if self.system else []
        head = [{"role": "system", "content": parts}] if parts else []
        turns = chat_messages(self.messages)
        if turns[-1].get("tool_calls"):
            raise BadRequest(
                "messages: the last turn calls tools, and their results are missing.",
                param="messages",
                hint="Add a user turn with a tool_result for each tool_use.",
            )
        return steady([*head, *turns])

    def chat_tools(self) -> list[dict[str, Any]] | None:
        """Return the tools in OpenAI's shape; None for none.

        Raises:
            BadRequest: one of them is not the client's own.
        """
        return [_chat_tool(tool, f"tools.{i}") for i, tool in enumerate(self.tools or [])] or None

    @property
    def continues(self) -> bool:
        """Whether the last turn is the beginning of the answer."""
        return self.messages[-1].role == "assistant"


class CountTokensRequest(Prompt):
    """The body of POST /v1/messages/count_tokens."""


class MessagesRequest(Prompt, SamplingFields):
    """The body of POST /v1/messages."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    mcp_servers: list[Any] | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of `LLM.achat`.

        Raises:
            BadRequest: fields that contradict each other, or cannot be honoured.
        """
        if self.mcp_servers:
            raise BadRequest("mcp_servers is not supported.", param="mcp_servers", hint=MISSING["hosted"])
        options = self.sampling_options() | {"max_tokens": self.max_tokens} | self._thinking_options()
        if self.stop_sequences:
            options["stop"] = self.stop_sequences
        if self.output_config is not None and self.output_config.format is not None:
            options["json_schema"] = self.output_config.format.schema_
        if self.continues:
            options |= {"continue_final_message": True, "add_generation_prompt": False}
        return options | self._tool_options()

    @property
    def thinks(self) -> bool:
        """Whether the client asks for thinking, and so expects blocks of it."""
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def shows_thinking(self) -> bool:
        """Whether those blocks have text."""
        return self.thinks and self.thinking is not None and self.thinking.display != "omitted"

    def _thinking_options(self) -> dict[str, Any]:
        effort = effort_options(self.output_config.effort if self.output_config is not None else None)
        if self.thinking is None or self.thinking.type != "enabled":
            return {**effort, "thinking": self.thinks}
        if self.thinking.budget_tokens is None:
            raise BadRequest("thinking.budget_tokens: Field required.", param="thinking.budget_tokens")
        return {**effort, "thinking": True, "reasoning_budget": self.thinking.budget_tokens}

    def _tool_options(self) -> dict[str, Any]:
        tools, choice = self.chat_tools(), self.tool_choice
        if tools is None:
            if choice is not None and choice.type in ("any", "tool"):
                raise BadRequest("tool_choice demands a tool, and there are no tools.", param="tool_choice")
            return {}
        options: dict[str, Any] = {"tools": tools}
        if choice is not None:
            options["tool_choice"] = self._chat_choice(choice)
            if choice.disable_parallel_tool_use is not None:
                options["parallel_tool_calls"] = not choice.disable_parallel_tool_use
        return options

    def _chat_choice(self, choice: ToolChoice) -> Any:
        if choice.type != "tool":
            return {"auto": "auto", "any": "required", "none": "none"}[choice.type]
        if choice.name not in [tool.name for tool in self.tools or []]:
            raise BadRequest(f"tool_choice.name: there is no tool {choice.name!r}.", param="tool_choice.name")
        return {"type": "function", "function": {"name": choice.name}}


def _chat_tool(tool: Tool, at: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise BadRequest(
            f"{at}.type: {tool.type[:80]!r} is a tool of Anthropic's, which this server does not have.",
            param=f"{at}.type",
            hint="Offer a tool of your own, with a name and an input_schema.",
        )
    if tool.input_schema is None:
        raise BadRequest(f"{at}.input_schema: Field required.", param=f"{at}.input_schema")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}
