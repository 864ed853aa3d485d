"""Reading text with a model, chunk by chunk, and hearing what its weights are multiplied by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType

import numpy as np

from localllm.calibrate.inputs import MatrixInput, Seen, Survey, seen_rows, weight_name
from localllm.errors import DecodeFailed, UnsupportedModel
from localllm.llama import Batch, Context, ContextParams, EndGraph, EvalCallback, Model, TensorView

N_UBATCH = 512
N_SURVEYED = 32
"""Tokens that are read to see the graph; fewer could take another path through it."""

Hear = Callable[[Seen], None]


class Reader:
    """A context whose products can be listened to.

    The model's KV cache is forgotten before each chunk. Every token is an output, because llama.cpp computes the last
    layer for outputs only. Once the last product that is listened to has been heard, the rest of the graph, with the
    output layer as its largest part, is left out, where the CPU computes alone.

    Args:
        model: to read with.
        n_ctx: tokens of a chunk.
        n_threads: of llama.cpp.
        with_output: the output layer can be listened to.
        stops_early: the graph may be left unfinished; only where one device computes all of it.

    Raises:
        UnsupportedModel: the model makes no text.
        ModelLoadFailed: llama.cpp cannot make the context.
    """

    def __init__(
        self, model: Model, n_ctx: int, n_threads: int, *, with_output: bool = False, stops_early: bool = True
    ) -> None:
        self._with_output = with_output
        self._stops_early = stops_early
        self._wants: Callable[[TensorView], bool] = lambda _: False
        self._watched: dict[str, MatrixInput] = {}
        self._last = ""
        self._hear: Hear = lambda _: None
        n_batch = min(n_ctx, N_UBATCH)
        self._batch = Batch(n_batch)
        params = ContextParams(
            n_ctx=n_ctx, n_batch=n_batch, n_ubatch=n_batch, n_outputs_max=n_batch, n_threads=n_threads
        )
        callback = EvalCallback(lambda tensor: self._wants(tensor), self._take)
        self._context = Context(model, params, eval_callback=callback)
        if not self._context.has_memory:
            self.close()
            raise UnsupportedModel(
                f"{model.path.name} makes no text: it embeds or ranks it.", hint="Choose a model that continues text."
            )

    def survey(self, tokens: Sequence[int]) -> tuple[MatrixInput, ...]:
        """Read a few tokens and return the inputs of the model's weights, the first layer first.

        Raises:
            DecodeFailed: llama.cpp failed.
            UnsupportedModel: no product of a weight of a layer was found.
        """
        survey = Survey(with_output=self._with_output)
        self._wants = survey.wants
        self._decode(tokens[:N_SURVEYED], 0)
        if not survey.inputs:
            raise UnsupportedModel(
                f"{self._context.model.path.name} has no matrices in layers that could be calibrated.",
                hint="Quantize it without an importance matrix.",
            )
        return survey.inputs

    def watch(self, inputs: Collection[MatrixInput], hear: Hear) -> None:
        """Listen to these inputs, of the survey and in its order, and to no others."""
        self._watched = {source.name: source for source in inputs}
        self._last = next(reversed(self._watched), "")
        self._hear = hear
        self._wants = lambda tensor: self._name(tensor) in self._watched

    def read(self, tokens: Sequence[int]) -> None:
        """Read a chunk from its start.

        Raises:
            DecodeFailed: llama.cpp failed, or an activation is not a number.
        """
        self._context.memory.clear()
        size = self._batch.capacity
        for pos in range(0, len(tokens), size):
            self._decode(tokens[pos : pos + size], pos)

    def _decode(self, tokens: Sequence[int], pos: int) -> None:
        self._batch.clear()
        self._batch.add_outputs(tokens, pos, 0)
        code = self._context.decode(self._batch)
        if code != 0:
            raise DecodeFailed(
                f"llama.cpp failed to read a chunk with {self._context.model.path.name} (code {code}).",
                hint="Try a smaller --n-ctx.",
            )

    def _name(self, tensor: TensorView) -> str | None:
        return weight_name(tensor, with_output=self._with_output)

    def _take(self, tensor: TensorView) -> None:
        name = self._name(tensor)
        assert name is not None, "only products are asked for"
        for seen in seen_rows(tensor, self._watched[name]):
            if not np.isfinite(seen.squares).all():
                raise DecodeFailed(
                    f"The input of {name} has values that are not finite numbers.",
                    hint="The model is damaged, or its values are too large for the type that it is stored in.",
                )
            self._hear(seen)
        if self._stops_early and name == self._last:
            raise EndGraph

    def close(self) -> None:
        """Free the context; closing twice is harmless."""
        self._context.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
