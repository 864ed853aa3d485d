"""A kept prefix, and how a prompt matches the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.engine.adapters import AdapterSet
from localllm.engine.events import PrefixReuse, ReuseLimit, ReuseSource
from localllm.engine.radix_tree import Tokens

MIN_KEPT = 16
"""Shorter prefixes are not worth an entry."""
MIN_RESTORE_GAIN = 64
"""A copy in RAM is used if it saves at least this many tokens more than what is in the cache; so is one on disk."""


@dataclass(eq=False, slots=True)
class Entry:
    """A kept prefix: in the cache under `seq_id`, or in RAM as `data`."""

    adapters: AdapterSet
    """That its cells were computed with."""
    tokens: Tokens
    seq_id: int | None
    data: NDArray[np.uint8] | None
    last_used: int
    is_live: bool = False
    is_stored: bool = False
    """Whether it is on disk too, or need not be."""
    is_fresh_from_disk: bool = False
    """Whether it was read from there and has not been used since."""

    @property
    def source(self) -> ReuseSource:
        """Where its cells come from when it is used next."""
        if self.seq_id is not None:
            return "context"
        return "disk" if self.is_fresh_from_disk else "ram"


@dataclass(frozen=True, slots=True)
class Match:
    """The kept prefix that serves a prompt best, and the nearest one, which need not serve."""

    n: int
    """Tokens that `entry` saves."""
    entry: Entry | None
    n_shared: int = 0
    """Tokens that the nearest kept prefix begins with as the prompt does."""
    goes_on: bool = False
    """Whether the nearest one has other tokens after these."""

    @property
    def is_resident(self) -> bool:
        return self.entry is not None and self.entry.seq_id is not None


NO_MATCH = Match(0, None)


def explain(n_prompt: int, n_reused: int, match: Match, source: ReuseSource, *, can_cut: bool) -> PrefixReuse:
    """Say how much of a prompt was reused, from where, and why not more.

    Args:
        n_prompt: its tokens; the last one is always computed, since its logits choose the first token of the answer.
        n_reused: of them, those that were not computed.
        match: what was found for it.
        source: where that was.
        can_cut: whether kept prefixes may serve in part, wherever they are.
    """
    differs = match.goes_on and match.n_shared < n_prompt - 1
    return PrefixReuse(
        reused=n_reused,
        prompt=n_prompt,
        source=source if n_reused else "none",
        why=_why(n_prompt, n_reused, match, can_cut=can_cut),
        differs_at=match.n_shared if differs else None,
    )


def _why(n_prompt: int, n_reused: int, match: Match, *, can_cut: bool) -> ReuseLimit:
    if n_reused == n_prompt - 1:
        return "all"
    if n_reused < match.n:
        return "evicted"
    if match.n_shared == 0:
        return "nothing_kept"
    if n_reused == match.n_shared:
        return "differs" if match.goes_on else "new"
    if not can_cut:
        return "no_rollback"
    return "too_short" if match.n_shared - n_reused < MIN_RESTORE_GAIN else "evicted"
