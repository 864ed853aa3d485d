"""What the engine says: typed records, in the order things happen to one request."""

from __future__ import annotations

from typing import Literal

import msgspec

from localllm import errors

FinishReason = Literal["stop", "length", "cancelled", "error"]
StopCause = Literal["", "eos", "stop_string", "grammar", "max_tokens", "context_full"]


class TokenLogprob(msgspec.Struct, frozen=True):
    """One candidate at one position. The logprob is the natural log of the model's own probability, before sampling."""

    token: int
    piece: bytes
    logprob: float


class Speculation(msgspec.Struct, frozen=True, kw_only=True):
    """What drafts did for one request."""

    kind: str
    """The drafter."""
    drafted: int
    """Tokens that were proposed to the model."""
    accepted: int
    """... and that the model chose."""
    speedup_est: float
    """Decoding speed over what it would have been without drafts, estimated from steps without."""


ReuseSource = Literal["none", "context", "ram", "disk"]
"""Where the beginning of a prompt had been kept."""
ReuseLimit = Literal[
    "all", "new", "differs", "nothing_kept", "too_short", "no_rollback", "evicted", "disabled", "not_started"
]
"""Why no more of a prompt was reused.

all: nothing more to reuse; the last token is always computed. new: a kept prefix was reused to its end, and the rest
had not been seen. differs: the nearest kept prefix goes on with other tokens. nothing_kept: none begins alike.
too_short: so little that computing it is cheaper. no_rollback: the nearest kept prefix goes on with other tokens, and
this model's memory cannot be cut (recurrent and hybrid models; with sliding windows, what has left the context).
evicted: what was found had no room, or could not be read. disabled: by the request. not_started: it ended before.
"""


class PrefixReuse(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a prompt was not computed again, from where, and why not more."""

    reused: int
    """Tokens that were not computed again."""
    prompt: int
    """... of so many."""
    source: ReuseSource
    why: ReuseLimit
    differs_at: int | None = None
    """The first token of the prompt, from 0, at which the nearest kept prefix differs; None where none does."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Prompt tokens that were not computed again."""
    evicted_tokens: int = 0
    """Tokens, of prompt and answer, that left the context while it slid."""
    speculation: Speculation | None = None
    """None where speculation was off."""
    cache: PrefixReuse | None = None
    """None where the request did not get as far as the engine."""


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, and tokens a second; 0.0 where nothing was measured."""

    queue_s: float
    ttft_s: float
    """From submission to the first token."""
    prefill_s: float
    decode_s: float
    prefill_tok_s: float
    decode_tok_s: float
    n_preemptions: int = 0


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as a value, so that it can cross a process boundary."""

    kind: str
    """The class's name in localllm.errors."""
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe an error; one that is not ours becomes an EngineError that names it."""
        if isinstance(error, errors.LocalLLMError):
            return cls(type(error).__name__, error.message, error.hint)
        return cls("EngineError", f"{type(error).__name__}: {error}", "This is a bug; please report it.")

    def to_error(self) -> errors.LocalLLMError:
        """Return the error, of its own class where this version has it."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.LocalLLMError)):
            kind = errors.EngineError
        return kind(self.message, hint=self.hint)


class PrefillProgress(msgspec.Struct, frozen=True, tag="prefill"):
    """Some of the prompt is in the cache now."""

    request_id: int
    n_done: int
    """Prompt tokens in the cache, the reused ones included."""
    n_total: int
    n_cached: int


class TokenEvent(msgspec.Struct, frozen=True, tag="token"):
    """One token was chosen."""

    request_id: int
    token: int
    piece: bytes
    """Its bytes; may be a part of a UTF-8 character. Empty for control tokens that the request did not ask to see."""
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


class FinishEvent(msgspec.Struct, frozen=True, tag="finish"):
    """The last event of every request."""

    request_id: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    cause: StopCause = ""
    error: ErrorInfo | None = None


Event = PrefillProgress | TokenEvent | FinishEvent
