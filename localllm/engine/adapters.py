"""LoRA adapters, as requests name them and as llama.cpp applies them: to all of a context at once.

So every step carries sequences of one adapter set. What kept cells hold depends on the set too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from localllm.errors import RequestError
from localllm.hardware.types import MAX_ADAPTER_SCALE
from localllm.llama import Context, LoraAdapter

AdapterSet = tuple[tuple[int, float], ...]
"""The id and the scale of each adapter that is applied, ids rising, no scale 0; () is the bare model."""


class Adapters:
    """The loaded adapters.

    Args:
        loaded: adapters by id, each with its scale for requests that name none. They stay the caller's.
    """

    def __init__(self, loaded: Sequence[tuple[LoraAdapter, float]] = ()) -> None:
        self._loaded = tuple(adapter for adapter, _ in loaded)
        self.default = _normal(enumerate(scale for _, scale in loaded))

    def resolve(self, wanted: Sequence[tuple[int, float]] | None) -> AdapterSet:
        """Return the adapter set of a request; adapters that it does not name are not applied.

        Raises:
            RequestError: there is no such adapter, it is named twice, or its scale is out of bounds.
        """
        if wanted is None:
            return self.default
        seen: set[int] = set()
        for number, scale in wanted:
            if not 0 <= number < len(self._loaded):
                raise RequestError(f"There is no LoRA adapter {number}.", hint=self._there_are())
            if number in seen:
                raise RequestError(f"LoRA adapter {number} is named twice.", hint="Name each once.")
            if not abs(scale) <= MAX_ADAPTER_SCALE:
                allowed = f"it must be from -{MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}"
                raise RequestError(
                    f"The scale of LoRA adapter {number} is {scale}; {allowed}.", hint="1 is as trained."
                )
            seen.add(number)
        return _normal(wanted)

    def apply(self, context: Context, adapters: AdapterSet) -> None:
        """Let the context's next batches be computed with exactly these. The first one after a change takes longer."""
        context.set_adapters([(self._loaded[number], scale) for number, scale in adapters])

    def _there_are(self) -> str:
        if not self._loaded:
            return "The model was loaded without adapters; name them when it is loaded."
        names = ", ".join(f"{number} ({adapter.path.name})" for number, adapter in enumerate(self._loaded))
        return f"There are {names}."


def _normal(wanted: Iterable[tuple[int, float]]) -> AdapterSet:
    return tuple(sorted((number, float(scale)) for number, scale in wanted if scale))
