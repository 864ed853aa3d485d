"""OpenAI's chat completions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from localllm.llm.events import (
    ChatEvent,
    Done,
    Progress,
    ReasoningDelta,
    TextDelta,
    TokenChoice,
    ToolCallDelta,
    Waiting,
)
from localllm.server.errors import BadRequest, Problem, openai_error
from localllm.server.wire.base import LogitBias, SamplingFields, Stop, StreamOptions, WireModel
from localllm.server.wire.frames import SSE_DONE, sse_data
from localllm.server.wire.usage import chat_logprobs, llama_timings, openai_usage

FINGERPRINT = "localllm"


class JsonSchema(WireModel):
    """The schema of a response format."""

    name: str = "schema"
    description: str | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | bool | None = Field(None, alias="schema")


class ResponseFormat(WireModel):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="llama-server's short form.")

    def options(self) -> dict[str, Any]:
        """Return the options of `localllm.llm` that hold the answer to this form.

        Raises:
            BadRequest: a schema is named and none is given.
        """
        if self.type == "text":
            return {}
        schema = self.schema_ if self.json_schema is None else self.json_schema.schema_
        if schema is not None:
            return {"json_schema": schema if isinstance(schema, dict) else {} if schema else {"not": {}}}
        if self.type == "json_schema":
            raise BadRequest("response_format has no schema.", param="response_format.json_schema.schema")
        return {"json_object": True}


class ChatCompletionRequest(SamplingFields):
    """The body of POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = Field(None, ge=1, le=128)
    stop: Stop | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = Field(None, description="A grammar in GBNF.")
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    reasoning_budget: int | None = Field(None, ge=-1, description="Tokens of reasoning at most; -1: any number.")
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of `LLM.achat`.

        Raises:
            BadRequest: fields that contradict each other.
        """
        options = self.sampling_options()
        limit = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        options["max_tokens"] = limit if limit is None or limit >= 0 else None
        for name in ("n", "stop", "logit_bias", "grammar", "tools", "tool_choice", "parallel_tool_calls",
                     "add_generation_prompt", "continue_final_message"):  # fmt: skip
            options[name] = getattr(self, name)
        if self.logprobs or self.top_logprobs:
            options["logprobs"] = self.top_logprobs or 0
        options.update(self._format_options(), **self._thinking_options())
        if not self.tools:
            options["tools"] = options["tool_choice"] = None
        return {name: value for name, value in options.items() if value is not None}

    def _format_options(self) -> dict[str, Any]:
        if self.json_schema is not None:
            return {"json_schema": self.json_schema}
        return self.response_format.options() if self.response_format is not None else {}

    def _thinking_options(self) -> dict[str, Any]:
        kwargs = dict(self.chat_template_kwargs or {})
        options: dict[str, Any] = {}
        thinking = kwargs.pop("enable_thinking", None)
        if self.reasoning_effort is not None:
            kwargs["reasoning_effort"] = self.reasoning_effort
            if thinking is None:
                thinking = self.reasoning_effort not in ("none", "minimal")
        if thinking is not None:
            options["thinking"] = bool(thinking)
        if self.reasoning_budget is not None and self.reasoning_budget >= 0:
            options["reasoning_budget"] = self.reasoning_budget
        if kwargs:
            options["template_kwargs"] = kwargs
        return options


class _Choice:
    """One completion so far."""

    def __init__(self) -> None:
        self.began = False
        self.logprobs: list[TokenChoice] = []
        self.done: Done | None = None


class ChatReply:
    """The answer to a chat completion.

    Args:
        model: the name that the client used.
        wants_logprobs: whether each piece carries its tokens.
        include_usage: whether a chunk with the usage ends the stream.
    """

    def __init__(self, model: str, *, wants_logprobs: bool, include_usage: bool) -> None:
        self._wants_logprobs = wants_logprobs
        self._include_usage = include_usage
        self._choices: dict[int, _Choice] = {}
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    def accept(self, event: ChatEvent) -> bytes:
        choice = self._choices.setdefault(event.index, _Choice())
        match event:
            case TextDelta():
                choice.logprobs.extend(event.logprobs)
                return self._delta(choice, event.index, {"content": event.text}, event.logprobs)
            case ReasoningDelta():
                thought = {"reasoning_content": event.text, "reasoning": event.text}
                return self._delta(choice, event.index, thought, ())
            case ToolCallDelta():
                return self._delta(choice, event.index, {"tool_calls": [_call_delta(event)]}, ())
            case Done():
                choice.done = event
                return self._finish(choice, event)
            case Progress() | Waiting():
                return b""

    def end(self) -> bytes:
        if not self._include_usage:
            return SSE_DONE
        done = self._done
        usage = {"choices": [], "usage": openai_usage(done), "timings": llama_timings(done[0].usage, done[0].timings)}
        return sse_data(self._head | usage) + SSE_DONE

    def fail(self, problem: Problem) -> bytes:
        return sse_data(openai_error(problem))

    def body(self) -> Mapping[str, Any]:
        done = self._done
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [self._whole(d) for d in done],
            "usage": openai_usage(done),
            "timings": llama_timings(done[0].usage, done[0].timings),
        }

    @property
    def _done(self) -> list[Done]:
        return [c.done for _, c in sorted(self._choices.items()) if c.done is not None]

    def _delta(self, choice: _Choice, index: int, delta: dict[str, Any], logprobs: tuple[TokenChoice, ...]) -> bytes:
        if not choice.began:
            choice.began = True
            delta = {"role": "assistant", **delta}
        return self._chunk(index, delta, None, chat_logprobs(logprobs) if self._wants_logprobs else None)

    def _finish(self, choice: _Choice, done: Done) -> bytes:
        first = b"" if choice.began else self._delta(choice, done.index, {"content": ""}, ())
        return first + self._chunk(done.index, {}, done.finish_reason, None)

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None, logprobs: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk: dict[str, Any] = self._head | {"choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return sse_data(chunk)

    def _whole(self, done: Done) -> dict[str, Any]:
        calls = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in done.tool_calls
        ]
        message: dict[str, Any] = {"role": "assistant", "content": done.text if done.text or not calls else None}
        if done.reasoning:
            message |= {"reasoning_content": done.reasoning, "reasoning": done.reasoning}
        if calls:
            message["tool_calls"] = calls
        tokens = self._choices[done.index].logprobs
        return {
            "index": done.index,
            "message": message,
            "logprobs": chat_logprobs(tokens) if self._wants_logprobs else None,
            "finish_reason": done.finish_reason,
        }


def _call_delta(event: ToolCallDelta) -> dict[str, Any]:
    """Return one delta of a call: its id and name come once, and nothing empty after that."""
    function: dict[str, Any] = {"arguments": event.arguments}
    if event.name is None:
        return {"index": event.call_index, "function": function}
    return {"index": event.call_index, "id": event.id, "type": "function", "function": {"name": event.name, **function}}
