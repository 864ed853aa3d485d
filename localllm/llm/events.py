"""What a caller of the Python API sees of a generation: typed records of text, in order."""

from __future__ import annotations

from typing import Literal

import msgspec

from localllm.chat.messages import ToolCall
from localllm.engine.events import FinishReason, StopCause, Timings, TokenLogprob, Usage


class TokenChoice(msgspec.Struct, frozen=True):
    """One generated token, and the most likely ones in its place."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class TextDelta(msgspec.Struct, frozen=True):
    """More text: whole characters, and never any part of a stop string."""

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
    """More of a call that the model makes. The first delta of a call has its id and its name, the later ones None."""

    call_index: int
    """Which of the calls of this completion, from 0."""
    id: str | None
    name: str | None
    arguments: str
    """The next piece of the arguments' JSON text."""
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


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one completion."""

    text: str
    """All of its text."""
    finish_reason: FinishReason | Literal["tool_calls"]
    usage: Usage
    timings: Timings
    index: int = 0
    cause: StopCause = ""
    """What ended it, more precisely than the reason."""
    stop_text: str | None = None
    """The stop string that ended it, if one did."""
    reasoning: str = ""
    """All that the model thought."""
    reasoning_tokens: int = 0
    """How many of the generated tokens were spent on it."""
    tool_calls: tuple[ToolCall, ...] = ()


ChatEvent = TextDelta | ReasoningDelta | ToolCallDelta | Progress | Done
