"""One pass through the text, or the beginnings of its chunks: second moments that fit, and squares while wanted."""

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
        chunks: [n_chunks, n_ctx] int32, what is read.
        stored: the squares of these chunks; None, if the pass is not for them.
    """

    def __init__(
        self,
        reader: Reader,
        inputs: Sequence[MatrixInput],
        parts: Sequence[MomentPart],
        chunks: Tokens,
        stored: StoredSums | None = None,
    ) -> None:
        self._reader = reader
        self._inputs = inputs
        self.parts = tuple(parts)
        self._chunks = chunks
        self._stored = stored
        self._moments: dict[tuple[str, int], MomentSum] = {}

    @property
    def n_ctx(self) -> int:
        """Tokens of each chunk."""
        return int(self._chunks.shape[1])

    @property
    def n_reads(self) -> int:
        """How many chunks will be read; only a pass for squares alone can go on where it was."""
        return len(self._chunks) - (0 if self.parts else self._n_summed)

    @property
    def _n_summed(self) -> int:
        return len(self._chunks) if self._stored is None else self._stored.sums.n_chunks

    def run(self, on_chunk: Callable[[int], None]) -> None:
        """Read the chunks; `on_chunk` hears of each how many tokens it has.

        Raises:
            DecodeFailed, RequestError: see `calibrate`.
        """
        self._moments = {(part.source.name, part.mat): MomentSum(part.source.n_cols) for part in self.parts}
        wanted = {part.source.name for part in self.parts}
        n_summed, n_chunks = self._n_summed, len(self._chunks)
        for index in range(n_chunks - self.n_reads, n_chunks):
            new = self._stored if index >= n_summed else None
            heard = self._inputs if new else [source for source in self._inputs if source.name in wanted]
            self._reader.watch(heard, self._hear(new.sums if new else None))
            self._reader.read(self._chunks[index].tolist())
            for moment in self._moments.values():
                moment.settle()
            if new:
                new.chunk_done(is_last=index == n_chunks - 1)
            on_chunk(self.n_ctx)

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
