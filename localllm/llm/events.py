"""What a caller of the Python API sees of a generation: typed records of text, in order."""

from __future__ import annotations

from typing import Literal

import msgspec

from localllm.chat.messages import ToolCall
from localllm.engine.events import FinishReason, StopCause, Timings, TokenLogprob, Usage

EndReason = FinishReason | Literal["tool_calls"]
"""Why a completion ended; of several reasons, the first of length, tool_calls, stop."""


class TokenChoice(msgspec.Struct, frozen=True):
    """One generated token, and the most likely ones in its place."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class TextDelta(msgspec.Struct, frozen=True):
    """More text for the reader: whole characters, and never any part of a stop string or of a call."""

    text: str
    index: int = 0
    """Which of the `n` completions it belongs to."""
    logprobs: tuple[TokenChoice, ...] = ()
    """The tokens that the text is made of; empty unless `logprobs` was asked for."""


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of what the model thinks before it answers."""

    text: str
    index: int = 0
    logprobs: tuple[TokenChoice, ...] = ()


class ToolCallDelta(msgspec.Struct, frozen=True):
    """More of a call of a tool."""

    call_index: int
    """0 for the completion's first call."""
    id: str | None
    """In the first delta of a call; then None."""
    name: str | None
    """The function, in the first delta of a call; then None."""
    arguments: str
    """The next piece of the arguments' JSON text, which is an object once it is complete."""
    index: int = 0
    logprobs: tuple[TokenChoice, ...] = ()


class Progress(msgspec.Struct, frozen=True):
    """How much of the prompt has been read, in tokens."""

    n_done: int
    """The reused ones included."""
    n_total: int
    n_cached: int
    """Reused from the prefix cache."""
    index: int = 0


class Waiting(msgspec.Struct, frozen=True):
    """A remote has said nothing for a while; its answer goes on."""

    silent_s: float
    """Seconds since it last said something."""
    index: int = 0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one completion."""

    text: str
    """All of its text for the reader."""
    finish_reason: EndReason
    usage: Usage
    timings: Timings
    index: int = 0
    cause: StopCause = ""
    """What ended it, more precisely than the reason."""
    stop_text: str | None = None
    """The stop string that ended it, if one did."""
    reasoning: str = ""
    reasoning_tokens: int = 0
    """How many of the generated tokens were spent on it."""
    tool_calls: tuple[ToolCall, ...] = ()


ChatEvent = TextDelta | ReasoningDelta | ToolCallDelta | Progress | Waiting | Done
