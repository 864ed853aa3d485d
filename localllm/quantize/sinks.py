"""The first tokens of a text, in what is known of the inputs of keys and values.

Later tokens rest their attention on the first few (attention sinks), so an error of their key or value reaches all that
follows. Among the inputs they are hardly seen: of SmolLM2-135M's chunks of 512 tokens, the first 4 are 0.5 to 0.8 % of
H, but 32 to 94 % of what the errors of V cost in the layers that were looked at, and 12 to 59 % of K's; of all other
matrices, 4 % and less. So K and V take half of H from them, which takes a tenth off the KL divergence of the file
(docs/quantizing.md, "Attention sinks"). Fused q, k and v have one H, which stays as it is.

Source: Xiao et al. 2024 (StreamingLLM), section 3.1, for the sinks and their number; the share is our own.
"""

from __future__ import annotations

import re
from typing import Protocol

from localllm.quantize.gptq import SecondMoments
from localllm.quantize.moments import MomentSource

N_SINK = 4
"""Tokens at the start of each chunk."""
SINK_SHARE = 0.5
"""Of H, both parts in units of their mean square."""
_KEYS_OR_VALUES = re.compile(r"blk\.\d+\.attn_[kv]\.weight")


def feeds_sinks(weight: str) -> bool:
    """Whether a weight makes keys or values, and nothing else."""
    return _KEYS_OR_VALUES.fullmatch(weight) is not None


class SinkSource(MomentSource, Protocol):
    """Second moments that tell those of the first tokens apart."""

    def sink_moments(self, weight: str) -> SecondMoments | None:
        """Return the moments of what a weight reads for the first `N_SINK` tokens of each chunk; None if not known.

        Raises:
            RequestError: they are damaged.
        """


class WithSinks:
    """Second moments in which the first tokens have their share, for keys and values (a `MomentSource`)."""

    def __init__(self, source: SinkSource) -> None:
        self._source = source

    def covers(self, weight: str) -> bool:
        """Whether there are moments of what this tensor reads."""
        return self._source.covers(weight)

    def input_of(self, weight: str) -> str:
        """Return a name of what the tensor reads; keys and values have one of their own."""
        name = self._source.input_of(weight)
        return f"{name} with sinks" if feeds_sinks(weight) else name

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        """Return the moments of one matrix; None where no token reached it.

        Raises:
            RequestError: they are damaged, or there are none.
        """
        plain = self._source.second_moments(weight, matrix)
        if plain is None or not feeds_sinks(weight):
            return plain
        sinks = self._source.sink_moments(weight)
        if sinks is None or not sinks.importance.any():
            return plain
        return plain.mixed_with(sinks, SINK_SHARE)
