"""One pass through the text: second moments that fit, and the squares of all inputs while they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localllm.calibrate.corpus import Tokens
from localllm.calibrate.folder import MomentFolder
from localllm.calibrate.gram import MomentSum
from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.calibrate.plan import MomentPart
from localllm.calibrate.reader import Hear, Reader
from localllm.calibrate.sums import SquareSums, StoredSums


class Pass:
    """The second moments of some parts.

    Args:
        reader: what reads.
        inputs: all of the model's, in the graph's order.
        parts: what is added up; none, if it is for the squares alone.
    """

    def __init__(self, reader: Reader, inputs: Sequence[MatrixInput], parts: Sequence[MomentPart]) -> None:
        self._reader = reader
        self._inputs = inputs
        self.parts = tuple(parts)
        self._moments: dict[tuple[str, int], MomentSum] = {}

    def run(self, chunks: Tokens, stored: StoredSums, on_chunk: Callable[[], None]) -> None:
        """Read all chunks, [n_chunks, n_ctx]; for squares alone, those that are not in them yet.

        Raises:
            DecodeFailed, RequestError: see `calibrate`.
        """
        sums = stored.sums
        self._moments = {(part.source.name, part.mat): MomentSum(part.source.n_cols) for part in self.parts}
        wanted = {part.source.name for part in self.parts}
        for index in range(0 if self.parts else sums.n_chunks, len(chunks)):
            is_new = index >= sums.n_chunks
            heard = self._inputs if is_new else [source for source in self._inputs if source.name in wanted]
            self._reader.watch(heard, self._hear(sums if is_new else None))
            self._reader.read(chunks[index].tolist())
            for moment in self._moments.values():
                moment.settle()
            if is_new:
                stored.chunk_done(is_last=index == len(chunks) - 1)
            on_chunk()

    def _hear(self, sums: SquareSums | None) -> Hear:
        def hear(seen: Seen) -> None:
            if sums is not None:
                sums.add(seen)
            moment = self._moments.get((seen.source.name, seen.mat))
            if moment is not None:
                moment.add(seen)

        return hear

    def write(self, folder: MomentFolder) -> None:
        """Write what was added up, and free it.

        Raises:
            RequestError: it cannot be written.
        """
        for part in self.parts:
            moment = self._moments.pop((part.source.name, part.mat))
            folder.write(part, moment.finish(), moment.n_rows)
