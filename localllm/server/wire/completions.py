"""OpenAI's older completions: a prompt, without a conversation."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from localllm.llm.events import ChatEvent, Done, TextDelta
from localllm.server.errors import BadRequest, Problem, openai_error
from localllm.server.wire.base import LogitBias, SamplingFields, Stop, StreamOptions
from localllm.server.wire.chat import FINGERPRINT, ResponseFormat
from localllm.server.wire.frames import SSE_DONE, sse_data
from localllm.server.wire.usage import LegacyLogprobs, evicted_usage, llama_timings, openai_usage, speculation_usage

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, for this API."""
MAX_PROMPTS = 64

Prompt = str | list[int]


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = Field(None, ge=1, le=128)
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    stop: Stop | None = None
    logit_bias: LogitBias | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None
    response_format: ResponseFormat | None = None

    def prompts(self) -> list[Prompt]:
        """Return the prompts, one or several.

        Raises:
            BadRequest: there is none, or there are too many.
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if not prompt:
            raise BadRequest("prompt is empty.", param="prompt")
        prompts: list[Any] = [prompt] if isinstance(prompt[0], int) else list(prompt)
        if len(prompts) > MAX_PROMPTS:
            raise BadRequest(f"{len(prompts)} prompts at once; {MAX_PROMPTS} are allowed.", param="prompt")
        return prompts

    def options(self) -> dict[str, Any]:
        """Return the options of `LLM.agenerate`.

        Raises:
            BadRequest: what is not supported.
        """
        if self.suffix:
            raise BadRequest("suffix is not supported here.", param="suffix", hint="Use /infill.")
        if self.best_of is not None and self.best_of > (self.n or 1):
            raise BadRequest("best_of above n is not supported.", param="best_of", hint="Leave best_of out.")
        options = self.sampling_options()
        limit = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        options["max_tokens"] = limit if limit >= 0 else None
        for name in ("n", "stop", "logit_bias", "logprobs", "grammar", "json_schema"):
            options[name] = getattr(self, name)
        if self.response_format is not None:
            options.update(self.response_format.options())
        return {name: value for name, value in options.items() if value is not None}


class CompletionReply:
    """The answer to a completion request, of all its prompts together.

    Args:
        model: the name that the client used.
        prompts: the texts to echo, "" for none; completion i belongs to prompt i // n.
        n: completions of each prompt.
        n_logprobs: candidates to name for each token; None for no logprobs.
        include_usage: whether a chunk with the usage ends the stream.
    """

    def __init__(
        self, model: str, prompts: Sequence[str], n: int, *, n_logprobs: int | None, include_usage: bool
    ) -> None:
        self._prompts = prompts
        self._n = n
        self._include_usage = include_usage
        self._echoed: set[int] = set()
        self._done: dict[int, Done] = {}
        self._tokens: dict[int, list[Any]] = {}
        self._logprobs = (
            {}
            if n_logprobs is None
            else {i: LegacyLogprobs(n_logprobs, len(prompts[i // n])) for i in range(n * len(prompts))}
        )
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    def accept(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                self._tokens.setdefault(event.index, []).extend(event.logprobs)
                logprobs = self._logprobs_of(event.index, event.logprobs)
                return self._chunk(event.index, self._echo(event.index) + event.text, None, logprobs)
            case Done():
                self._done[event.index] = event
                return self._chunk(event.index, self._echo(event.index), event.finish_reason, None)
            case _:
                return b""

    def end(self) -> bytes:
        if not self._include_usage:
            return SSE_DONE
        return sse_data(self._head | {"choices": [], **self._counts()}) + SSE_DONE

    def fail(self, problem: Problem) -> bytes:
        return sse_data(openai_error(problem))

    def body(self) -> Mapping[str, Any]:
        choices = []
        for index, done in sorted(self._done.items()):
            self._restart_offsets(index)
            choices.append(
                {
                    "index": index,
                    "text": self._prompts[index // self._n] + done.text,
                    "logprobs": self._logprobs_of(index, self._tokens.get(index, [])),
                    "finish_reason": done.finish_reason,
                }
            )
        return {**self._head, "choices": choices, **self._counts()}

    def _counts(self) -> dict[str, Any]:
        done = [d for _, d in sorted(self._done.items())]
        usage = openai_usage(done[: self._n])
        for start in range(self._n, len(done), self._n):
            more = openai_usage(done[start : start + self._n])
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                usage[name] += more[name]
            usage |= evicted_usage(usage.get("evicted_tokens", 0) + more.get("evicted_tokens", 0))
            usage["prompt_tokens_details"]["cached_tokens"] += more["prompt_tokens_details"]["cached_tokens"]
            usage.pop("cache", None)
        usage |= speculation_usage(done)
        return {"usage": usage, "timings": llama_timings(done[0].usage, done[0].timings)}

    def _echo(self, index: int) -> str:
        if index in self._echoed:
            return ""
        self._echoed.add(index)
        return self._prompts[index // self._n]

    def _restart_offsets(self, index: int) -> None:
        if self._logprobs:
            self._logprobs[index] = self._logprobs[index].restarted()

    def _logprobs_of(self, index: int, tokens: Sequence[Any]) -> dict[str, Any] | None:
        return self._logprobs[index].of(tokens) if self._logprobs else None

    def _chunk(self, index: int, text: str, reason: str | None, logprobs: Any) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        chunk: dict[str, Any] = self._head | {"choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return sse_data(chunk)
