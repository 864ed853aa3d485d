"""llama-server's own completions: /completion and /infill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from localllm.llm.events import ChatEvent, Done, TextDelta, TokenChoice
from localllm.llm.infill import Snippet
from localllm.server.errors import BadRequest, Problem, openai_error
from localllm.server.wire.base import LogitBias, SamplingFields, Stop, WireModel
from localllm.server.wire.completions import MAX_PROMPTS, Prompt
from localllm.server.wire.frames import sse_data
from localllm.server.wire.gap import Gap
from localllm.server.wire.usage import chat_logprobs, llama_timings

_OFF: Mapping[str, Mapping[str, Any]] = {
    "penalties": {"repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    "dry": {"dry_multiplier": 0.0},
    "top_n_sigma": {"top_n_sigma": -1.0},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {"xtc_probability": 0.0},
    "temperature": {"temperature": 1.0},
}
"""What it means that a sampler is not in `samplers`."""
_MISSING = object()
_STOP_TYPES = {"max_tokens": "limit", "context_full": "limit", "stop_string": "word"}


class NativeOptions(SamplingFields):
    """What /completion and /infill have in common."""

    model: str | None = None
    stream: bool | None = False
    n_predict: int | None = Field(None, description="Tokens at most; -1: any number; 0: only read the prompt.")
    max_tokens: int | None = None
    stop: Stop | None = None
    logit_bias: LogitBias | None = None
    n_probs: int | None = Field(None, ge=0, le=20)
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None
    samplers: list[str] | None = Field(None, description="Those not named are off; their order is fixed.")
    n_keep: int | None = Field(None, description="Tokens at the beginning that the policy shift keeps; -1: the prompt.")
    return_tokens: bool | None = None
    t_max_predict_ms: float | None = Field(None, description="End a single answer after so long, once it has a line.")
    response_fields: list[str] | None = None

    @property
    def only_reads(self) -> bool:
        """Whether nothing shall be written: the prompt is read, for the prefix cache."""
        return self._limit == 0

    @property
    def max_s(self) -> float | None:
        """Seconds that an answer may take, from its first text."""
        return self.t_max_predict_ms / 1e3 if self.t_max_predict_ms is not None and self.t_max_predict_ms > 0 else None

    @property
    def _limit(self) -> int | None:
        return self.n_predict if self.n_predict is not None else self.max_tokens

    def options(self) -> dict[str, Any]:
        """Return the options of `LLM.agenerate`."""
        options = self.sampling_options()
        if self.samplers is not None:
            for name, off in _OFF.items():
                if name not in self.samplers:
                    options.update(off)
        if self._limit is not None and self._limit >= 0:
            options["max_tokens"] = max(self._limit, 1)
        for name in ("stop", "logit_bias", "json_schema", "n_keep"):
            options[name] = getattr(self, name)
        options["grammar"] = self.grammar or None
        if self.n_probs or self.return_tokens or self.max_s is not None:
            options["logprobs"] = self.n_probs or 0
        return {name: value for name, value in options.items() if value is not None}


class CompletionBody(NativeOptions):
    """The body of POST /completion."""

    prompt: str | list[int] | list[str | list[int]]

    @property
    def is_batch(self) -> bool:
        """Whether the answer is a list."""
        return isinstance(self.prompt, list) and not all(isinstance(item, int) for item in self.prompt)

    def prompts(self) -> list[Prompt]:
        """Return the prompts, one or several.

        Raises:
            BadRequest: there is none, or there are too many.
        """
        if not self.prompt:
            raise BadRequest("prompt is empty.", param="prompt")
        if isinstance(self.prompt, list) and len(self.prompt) > MAX_PROMPTS and self.is_batch:
            raise BadRequest(f"{len(self.prompt)} prompts at once; {MAX_PROMPTS} are allowed.", param="prompt")
        prompts: list[Any] = list(self.prompt) if self.is_batch else [self.prompt]
        return prompts


class ExtraText(WireModel):
    """A piece of another file."""

    text: str
    filename: str | None = None


class InfillBody(NativeOptions):
    """The body of POST /infill."""

    input_prefix: str = Field("", description="The text left of the gap.")
    input_suffix: str = Field("", description="The text right of the gap.")
    input_extra: list[ExtraText] | None = Field(None, description="Pieces of other files, the most helpful last.")
    prompt: str = Field("", description="More text left of the gap, after input_prefix.")

    def gap(self) -> Gap:
        """Return the gap; what does not fit around it is left out, and the answer says how much."""
        extra = tuple(Snippet(item.text, item.filename) for item in self.input_extra or ())
        return Gap(self.input_prefix + self.prompt, self.input_suffix, extra, is_cut=True)


class NativeReply:
    """The answer to /completion or /infill.

    Args:
        model: the name that the client used.
        body: what was asked.
        prompts: echoed in the answer, one for each completion.
        gap: of /infill.
    """

    def __init__(self, model: str, body: NativeOptions, prompts: Sequence[str], gap: Gap | None = None) -> None:
        self._model = model
        self._body = body
        self._prompts = prompts
        self._gap = gap
        self._tokens: dict[int, list[TokenChoice]] = {}
        self._done: dict[int, Done] = {}

    def accept(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta() if not self._body.only_reads:
                self._tokens.setdefault(event.index, []).extend(event.logprobs)
                piece = {"index": event.index, "content": event.text, "stop": False, "id_slot": -1}
                return sse_data(piece | self._probabilities(event.logprobs))
            case Done():
                self._done[event.index] = event
                return sse_data(self._end(event, "", ()))
            case _:
                return b""

    def end(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        return sse_data(openai_error(problem))

    def body(self) -> Any:
        answers = [
            self._end(done, "" if self._body.only_reads else done.text, self._tokens.get(index, []))
            for index, done in sorted(self._done.items())
        ]
        is_batch = isinstance(self._body, CompletionBody) and self._body.is_batch
        return answers if is_batch else answers[0]

    def _end(self, done: Done, text: str, tokens: Sequence[TokenChoice]) -> dict[str, Any]:
        n_dropped = self._gap.n_dropped if self._gap is not None else 0
        stops = [self._body.stop] if isinstance(self._body.stop, str) else self._body.stop or []
        answer = {
            "index": done.index,
            "content": text,
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": 0 if self._body.only_reads else done.usage.completion_tokens,
            "tokens_evaluated": done.usage.prompt_tokens,
            "tokens_cached": done.usage.prompt_tokens + done.usage.completion_tokens - done.usage.evicted_tokens,
            "tokens_dropped": n_dropped,
            "tokens_evicted": done.usage.evicted_tokens,
            "generation_settings": self._body.options(),
            "prompt": self._prompts[done.index],
            "has_new_line": "\n" in done.text,
            "truncated": n_dropped + done.usage.evicted_tokens > 0,
            "stop_type": _STOP_TYPES.get(done.cause, "eos"),
            # Which one it was is known only where there is one.
            "stopping_word": stops[0] if done.cause == "stop_string" and len(stops) == 1 else "",
            "timings": llama_timings(done.usage, done.timings),
            **self._probabilities(tokens),
        }
        return selected(answer, self._body.response_fields)

    def _probabilities(self, tokens: Sequence[TokenChoice]) -> dict[str, Any]:
        found: dict[str, Any] = {"tokens": [c.chosen.token for c in tokens] if self._body.return_tokens else []}
        if self._body.n_probs:
            described = chat_logprobs(tokens)["content"]
            for choice, entry in zip(tokens, described, strict=True):
                entry["id"] = choice.chosen.token
                for top, candidate in zip(choice.top, entry["top_logprobs"], strict=True):
                    candidate["id"] = top.token
            found["completion_probabilities"] = described
        return found


def selected(answer: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """Return those fields of an answer that were asked for; "a/b" is field b of a, under this name."""
    if not fields:
        return answer
    found = {}
    for field in fields:
        value: Any = answer
        for part in field.split("/"):
            value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value is not _MISSING:
            found[field] = value
    return found
