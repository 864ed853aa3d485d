"""Answers of /api/chat and /api/generate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from localllm.chat.messages import ToolCall
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
from localllm.server.errors import Problem, ollama_error
from localllm.server.wire.frames import ndjson_line
from localllm.server.wire.ollama.history import pack
from localllm.server.wire.ollama.values import nanoseconds, now
from localllm.server.wire.usage import chat_logprobs, evicted_usage


class Stopwatch:
    """When a request came, and when its model was loaded."""

    def __init__(self) -> None:
        self._started_s = self._loaded_s = time.perf_counter()

    def mark_loaded(self) -> None:
        self._loaded_s = time.perf_counter()

    def durations(self) -> dict[str, int]:
        """Return the durations of the whole request so far and of the load in it, in nanoseconds."""
        total_s = time.perf_counter() - self._started_s
        return {
            "total_duration": nanoseconds(total_s),
            "load_duration": nanoseconds(self._loaded_s - self._started_s),
        }


class ChatReply:
    """The answer to a chat.

    Args:
        model: the name that the client used.
        watch: started when the request came.
        wants_logprobs: whether each piece carries its tokens.
    """

    def __init__(self, model: str, watch: Stopwatch, *, wants_logprobs: bool) -> None:
        self._model = model
        self._watch = watch
        self._wants_logprobs = wants_logprobs
        self._tokens: list[TokenChoice] = []
        self._done: Done | None = None

    def accept(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                self._tokens += event.logprobs
                return self._line(self._content(text=event.text), event.logprobs)
            case ReasoningDelta():
                self._tokens += event.logprobs
                return self._line(self._content(thinking=event.text), event.logprobs)
            case Done():
                self._done = event
                calls = ollama_calls(event.tool_calls)
                called = self._line(self._content(calls=calls), ()) if calls else b""
                return called + ndjson_line(self._head() | self._content() | self._end(event))
            case ToolCallDelta() | Progress() | Waiting():
                # Ollama's clients expect calls in one piece.
                return b""

    def end(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        return ndjson_line(ollama_error(problem))

    def body(self) -> Mapping[str, Any]:
        done = self._done
        assert done is not None
        content = self._content(text=done.text, thinking=done.reasoning, calls=ollama_calls(done.tool_calls))
        return self._head() | content | self._logprobs(self._tokens) | self._end(done)

    def _content(self, text: str = "", thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {"message": message}

    def _head(self) -> dict[str, Any]:
        return {"model": self._model, "created_at": now()}

    def _line(self, content: dict[str, Any], logprobs: Sequence[TokenChoice]) -> bytes:
        return ndjson_line(self._head() | content | {"done": False} | self._logprobs(logprobs))

    def _logprobs(self, tokens: Sequence[TokenChoice]) -> dict[str, Any]:
        return {"logprobs": chat_logprobs(tokens)["content"]} if self._wants_logprobs and tokens else {}

    def _end(self, done: Done) -> dict[str, Any]:
        usage, timings = done.usage, done.timings
        return {
            "done": True,
            "done_reason": "length" if done.finish_reason == "length" else "stop",
            **self._watch.durations(),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(timings.prefill_s),
            "eval_count": usage.completion_tokens,
            **evicted_usage(usage.evicted_tokens),
            "eval_duration": nanoseconds(timings.decode_s),
        }


class GenerateReply(ChatReply):
    """The answer to a prompt.

    Args:
        model: the name that the client used.
        watch: started when the request came.
        wants_logprobs: whether each piece carries its tokens.
        conversation: what the answer's `context` goes on from; None: the answer has none.
    """

    def __init__(
        self,
        model: str,
        watch: Stopwatch,
        *,
        wants_logprobs: bool,
        conversation: Sequence[Mapping[str, str]] | None,
    ) -> None:
        super().__init__(model, watch, wants_logprobs=wants_logprobs)
        self._conversation = conversation

    def _content(self, text: str = "", thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        content: dict[str, Any] = {"response": text}
        if thinking:
            content["thinking"] = thinking
        if calls:
            content["tool_calls"] = calls
        return content

    def _end(self, done: Done) -> dict[str, Any]:
        if self._conversation is None:
            return super()._end(done)
        context = pack([*self._conversation, {"role": "assistant", "content": done.text}])
        return super()._end(done) | {"context": context}


def ollama_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return tool calls in Ollama's shape, where arguments are an object; one that was cut short is left out."""
    found = []
    for index, call in enumerate(calls):
        try:
            arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            continue
        function = {"index": index, "name": call.function.name, "arguments": arguments}
        found.append({"id": call.id, "function": function} if call.id else {"function": function})
    return found


def nothing_to_answer(model: str, content: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Return the answer to a request that only loads or unloads a model.

    Args:
        model: the name that the client used.
        content: an empty answer in the API's shape.
        reason: "load" or "unload".
    """
    return {"model": model, "created_at": now(), **content, "done": True, "done_reason": reason}
