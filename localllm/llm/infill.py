"""Fill-in-the-middle: the prompt of a model that was trained to write what belongs between two texts.

The order is prefix, suffix, middle (Bavarian et al. 2022, PSM). Other texts come before it: as files of a repository
where the model knows such (Hui et al. 2024, Qwen2.5-Coder, section 3.1), else one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from localllm.errors import RequestError
from localllm.runtime.backend import Backend, FimTokens

_REPOSITORY = "repository"
_UNNAMED = "snippet"
_EDITED = "edited"
_SUFFIX_SHARE = 4
"""One token in so many is for the text right of the gap, where both sides are too long."""


class Snippet(NamedTuple):
    """A text from elsewhere."""

    text: str
    filename: str | None = None


@dataclass(frozen=True)
class InfillPrompt:
    """The prompt, and what did not fit in it."""

    tokens: list[int]
    n_dropped: int
    """Tokens of the texts that were left out."""


def infill_prompt(
    backend: Backend, prefix: str, suffix: str, extra: Sequence[Snippet], max_prompt_tokens: int | None
) -> InfillPrompt:
    """See `LLM.infill_prompt`."""
    info = backend.info
    if info.fim is None:
        raise RequestError(
            f"{info.name} cannot fill gaps: its vocabulary has no fill-in-the-middle tokens.",
            hint="Load a code model that was trained for it, such as Qwen2.5-Coder.",
        )
    left, right = _tokens(backend, prefix), _tokens(backend, suffix)
    head = backend.tokenize(info.bos_text, add_special=False, parse_special=True) if info.add_bos else []
    n_fixed = len(head) + 3
    if max_prompt_tokens is None:
        others = _context(backend, info.fim, extra)
        return InfillPrompt([*head, *others, *_gap(info.fim, left, right)], 0)
    room = max_prompt_tokens - n_fixed
    if room < 0:
        raise RequestError(f"A prompt of {max_prompt_tokens} tokens has no room for a gap.", hint="Raise n_ctx.")
    n_left, n_right = _shares(len(left), len(right), room)
    others, n_left_out = _fitting(backend, info.fim, extra, room - n_left - n_right)
    n_dropped = len(left) - n_left + len(right) - n_right + n_left_out
    gap = _gap(info.fim, left[len(left) - n_left :], right[:n_right])
    return InfillPrompt([*head, *others, *gap], n_dropped)


def _tokens(backend: Backend, text: str) -> list[int]:
    """Return the tokens of a text, in which nothing is a control token."""
    return backend.tokenize(text, add_special=False, parse_special=False) if text else []


def _gap(fim: FimTokens, left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [fim.pre, *left, fim.suf, *right, fim.mid]


def _shares(n_left: int, n_right: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each side fit. The left one's share is the larger; what one leaves, the other has."""
    if n_left + n_right <= room:
        return n_left, n_right
    n_right = min(n_right, max(room // _SUFFIX_SHARE, room - n_left))
    return min(n_left, room - n_right), n_right


def _fitting(backend: Backend, fim: FimTokens, extra: Sequence[Snippet], room: int) -> tuple[list[int], int]:
    """Return the tokens of the last snippets that fit together, and how many tokens the others have."""
    counts = [len(_tokens(backend, snippet.text)) for snippet in extra]
    for first in range(len(extra)):
        if sum(counts[first:]) <= room:
            tokens = _context(backend, fim, extra[first:])
            if len(tokens) <= room:
                return tokens, sum(counts[:first])
    return [], sum(counts)


def _context(backend: Backend, fim: FimTokens, extra: Sequence[Snippet]) -> list[int]:
    if not extra:
        return []
    tokens: list[int] = []
    if fim.rep is not None:
        tokens += [fim.rep, *_tokens(backend, f"{_REPOSITORY}\n")]
    for snippet in extra:
        name = snippet.filename or _UNNAMED
        if fim.sep is None:
            tokens += _tokens(backend, f"{name}:\n{snippet.text}\n\n")
        else:
            tokens += [fim.sep, *_tokens(backend, f"{name}\n{snippet.text}\n")]
    if fim.sep is not None:
        tokens += [fim.sep, *_tokens(backend, f"{_EDITED}\n")]
    return tokens
