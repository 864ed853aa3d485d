"""From a server's refusal to an error of ours: its status, and its own words."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from localllm import errors
from localllm.gguf import printable

_MAX_WORDS = 300
_TOO_LONG = re.compile(
    r"context.?(length|size|window)|maximum (context|model)|exceeds? the (available )?context|too many (input )?tokens",
    re.IGNORECASE,
)


class Refusal(NamedTuple):
    """An answer that is none."""

    status: int
    location: str | None
    """Where a redirect leads."""
    retry_after: str | None
    data: bytes


def error_of(refusal: Refusal, name: str, path: str, *, has_key: bool) -> errors.LocalLLMError:
    """Return the error that a server's refusal means.

    Args:
        refusal: what came.
        name: the remote's.
        path: what was asked for.
        has_key: whether a key was sent.
    """
    status, words = refusal.status, said(refusal.data)
    because = f": {words}" if words else ""
    match status:
        case 401 | 403:
            problem = "does not accept the key" if has_key else "needs a key"
            return errors.ServerError(
                f"{name} {problem} (status {status}){because}",
                hint=f"Give it one: localllm remote add {name} URL --force --key KEY",
            )
        case 404 if "model" in words.lower():
            return errors.ModelNotFound(f"{name} does not have the model: {words}", hint=_see(name))
        case 404 | 405:
            return errors.ServerError(
                f"{name} has no {path} (status {status}): it speaks no OpenAI, or has another address.",
                hint=f"Check the address: localllm remote check {name}",
            )
        case 429 | 503:
            wait = f" It asks to wait {printable(refusal.retry_after, 20)} s." if refusal.retry_after else ""
            return errors.ServerBusy(
                f"{name} has no room now (status {status}){because}{wait}", hint="Try again later."
            )
        case _ if 300 <= status < 400:
            target = printable(refusal.location or "an unknown place", 200)
            return errors.ServerError(
                f"{name} sends its clients on to {target} (status {status}).",
                hint=f"If you trust that address, add it: localllm remote add {name} URL --force",
            )
        case _ if 400 <= status < 500:
            return asked_wrong(name, refusal.data)
    return errors.ServerError(f"{name} failed (status {status}){because}", hint="Its log may say more.")


def asked_wrong(name: str, data: bytes) -> errors.RequestError:
    """Return the error of a request that the server does not take."""
    words = said(data) or "it gives no reason"
    if b"context_length_exceeded" in data or b"exceed_context_size" in data or _TOO_LONG.search(words):
        return errors.ContextLengthExceeded(f"The prompt is too long for {name}: {words}", hint="Shorten it.")
    return errors.RequestError(f"{name} refused: {words}", hint="Change what it names, or leave it out.")


def broken_off(name: str, error: Any) -> errors.LocalLLMError:
    """Return the error that a server put into a stream that had begun."""
    words = said(json.dumps({"error": error}).encode())
    return errors.ServerError(f"{name} failed in the middle of its answer: {words}", hint="Its log may say more.")


def said(data: bytes) -> str:
    """Return the words of an error's body, as one harmless line."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        # A page is no use in a terminal.
        text = "" if b"<" in data[:200] else data.decode("utf-8", "replace")
    else:
        text = _words(body)
    return printable(" ".join(text.split()), _MAX_WORDS)


def _words(body: Any) -> str:
    """Return the message in a body, wherever this kind of server puts it."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_words, body[:3])))
    if isinstance(body, dict):
        for key in ("error", "message", "detail", "msg"):
            if body.get(key):
                return _words(body[key])
    return ""


def _see(name: str) -> str:
    return f"See what it has: localllm remote check {name}"
