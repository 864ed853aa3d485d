"""Calibrating a model: reading a text with it, in as many passes as memory asks for, and writing what was found.

    with Model(path) as model:
        chunks = cut(read_documents([text]), model.vocab, n_ctx=512)
        calibrate(model, shape, chunks, out, CalibrationOptions(n_threads=8, memory_bytes=8 << 30, moments=folder))

`out` becomes an importance matrix that llama.cpp reads; `folder` gets the second moments of every input. What has been
finished when a run ends, however it ends, is not computed again by the next with the same model, text and folder, and
the result has the same bytes as without the interruption.

For keys and values the folder also gets the moments of the first tokens of all chunks. A token knows nothing of those
behind it, so they are read again by themselves, in a hundredth of the time; a folder of a former version gets them so,
too, when the same is asked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localllm.calibrate.corpus import Chunks
from localllm.calibrate.folder import Key, MomentFolder
from localllm.calibrate.inputs import MatrixInput
from localllm.calibrate.passes import Pass
from localllm.calibrate.plan import MomentPart, parts_of, plan_passes, reader_bytes, sink_parts_of
from localllm.calibrate.reader import N_UBATCH, Reader
from localllm.calibrate.sums import SquareSums, StoredSums
from localllm.gguf import ModelShape
from localllm.gguf.new_file import check_room
from localllm.hardware.blas import blas_threads
from localllm.llama import Model
from localllm.quantize.imatrix import Imatrix, ImatrixEntry, write_imatrix
from localllm.quantize.sinks import N_SINK
from localllm.store.fingerprint import fingerprint

SUMS_FILE = "squares.npz"


@dataclass(frozen=True)
class CalibrationOptions:
    """How to calibrate."""

    n_threads: int
    """Of llama.cpp, and of BLAS; they take turns."""
    memory_bytes: int
    """For the model, its context and the second moments that are added up at once."""
    moments: Path | None = None
    """The folder for second moments; None collects none."""
    may_replace_moments: bool = False
    """Delete what the folder holds of another model or text."""
    with_output: bool = False
    """Calibrate the output layer, too; llama.cpp's tool leaves it out unless told."""
    stops_early: bool = True
    """A pass may leave out the layers behind those that it is for; only where one device computes everything."""


@dataclass(frozen=True)
class Progress:
    """How far a calibration is."""

    n_done: int
    """Chunks read, over all passes; the last reads only their first tokens."""
    n_total: int
    """Chunks to read; without those that a former run has read."""
    left_s: float
    """Seconds that the rest will take if it goes on as it went."""


OnProgress = Callable[[Progress], None]
"""Called after each chunk; an exception ends the calibration."""


def calibrate(
    model: Model,
    shape: ModelShape,
    chunks: Chunks,
    out: Path,
    options: CalibrationOptions,
    on_progress: OnProgress = lambda _: None,
) -> Imatrix:
    """Read the chunks, write the importance matrix to `out`, and return it.

    Raises:
        RequestError: `out` or the folder cannot be written, or the folder is of another model or text.
        NotEnoughDisk: their disk has no room.
        NotEnoughMemory: the second moments of a single input do not fit.
        UnsupportedModel: the model makes no text.
        ModelLoadFailed, DecodeFailed: llama.cpp failed, or the model gives numbers that are not finite.
    """
    check_room(out, 0)
    key = Key(fingerprint(model.path), chunks.sha256, chunks.n_tokens, chunks.n_ctx)
    folder = None
    if options.moments is not None:
        folder = MomentFolder.create(options.moments, key, may_replace=options.may_replace_moments)
    reader = Reader(
        model,
        chunks.n_ctx,
        options.n_threads,
        with_output=options.with_output,
        stops_early=options.stops_early,
    )
    with reader, blas_threads(options.n_threads):
        inputs = reader.survey(chunks.tokens[0].tolist())
        state = out.with_name(f".{out.name}.{SUMS_FILE}") if folder is None else folder.path / SUMS_FILE
        stored = StoredSums(SquareSums(inputs), state, key.text)
        room_bytes = options.memory_bytes - reader_bytes(shape, chunks.n_ctx, min(chunks.n_ctx, N_UBATCH))
        parts, sink_parts = _missing(folder, inputs)
        planned = plan_passes(parts, chunks.n_ctx, room_bytes)
        if not planned and stored.sums.n_chunks < chunks.n_chunks:
            planned = [()]
        passes = [Pass(reader, inputs, parts, chunks.tokens, stored) for parts in planned]
        beginnings = chunks.tokens[:, :N_SINK]
        passes += [Pass(reader, inputs, parts, beginnings) for parts in plan_passes(sink_parts, N_SINK, room_bytes)]
        clock = _Clock(passes, on_progress)
        for one in passes:
            one.run(clock.tick)
            if folder is not None:
                one.write(folder)
    imatrix = _imatrix(stored.sums, chunks)
    write_imatrix(out, imatrix)
    if folder is None:
        state.unlink(missing_ok=True)
    return imatrix


def _missing(folder: MomentFolder | None, inputs: Sequence[MatrixInput]) -> tuple[list[MomentPart], list[MomentPart]]:
    """Return the parts that are not there yet: those of whole chunks, and those of their first tokens."""
    if folder is None:
        return [], []
    parts = [part for part in parts_of(inputs) if not folder.has(part)]
    sink_parts = [part for part in sink_parts_of(inputs) if not folder.has(part)]
    folder.check_room([*parts, *sink_parts])
    return parts, sink_parts


def _imatrix(sums: SquareSums, chunks: Chunks) -> Imatrix:
    entries = {weight: ImatrixEntry(squares.astype(np.float32), counts) for weight, squares, counts in sums.entries()}
    return Imatrix(entries, chunks.names, chunks.n_chunks, chunks.n_ctx)


class _Clock:
    """Counts chunks and says how long the rest will take."""

    def __init__(self, passes: Sequence[Pass], on_progress: OnProgress) -> None:
        self._n_done, self._n_total = 0, sum(one.n_reads for one in passes)
        self._n_tokens_done, self._n_tokens = 0, sum(one.n_reads * one.n_ctx for one in passes)
        self._on_progress = on_progress
        self._started = time.monotonic()

    def tick(self, n_tokens: int) -> None:
        self._n_done += 1
        self._n_tokens_done += n_tokens
        s_per_token = (time.monotonic() - self._started) / self._n_tokens_done
        left_s = s_per_token * (self._n_tokens - self._n_tokens_done)
        self._on_progress(Progress(self._n_done, self._n_total, left_s))
