"""What calibration costs: python benchmarks/calibration.py [MODEL] [--chunks 8] [--threads N] [--rounds 3] [--json OUT]

Reads the same chunks of the default text in four ways, in turns: by llama.cpp alone, every token an output; for the
sums of squares; for the second moments, too, all in one pass; and, of the last, the products alone, with what was
heard kept from before. Printed are tokens per second: the median, the slowest and the fastest round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from localllm.calibrate import Chunks, cut, default_documents
from localllm.calibrate.gram import MomentSum
from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.calibrate.reader import Reader
from localllm.calibrate.sums import SquareSums
from localllm.hardware import n_compute_threads
from localllm.hardware.blas import blas_threads
from localllm.llama import Model
from localllm.store import resolve

Way = Callable[[], None]


class Bench:
    """One model and its text, read in several ways."""

    def __init__(self, reader: Reader, chunks: Chunks) -> None:
        self._reader = reader
        self._chunks = [chunk.tolist() for chunk in chunks.tokens]
        self.inputs = reader.survey(self._chunks[0])

    def alone(self) -> None:
        """Nothing is listened to, so nothing is left out, either: the output layer is computed."""
        self._reader.watch((), lambda _: None)
        self._read(lambda: None)

    def squares(self) -> None:
        sums = SquareSums(self.inputs)
        self._reader.watch(self.inputs, sums.add)
        self._read(lambda: None)

    def moments(self) -> None:
        sums, moments = SquareSums(self.inputs), self._moment_sums()

        def hear(seen: Seen) -> None:
            sums.add(seen)
            moments[seen.source.name, seen.mat].add(seen)

        self._reader.watch(self.inputs, hear)
        self._read(lambda: settle(moments))

    def products(self) -> None:
        """One chunk's rows, multiplied as often as there are chunks."""
        heard: list[Seen] = []
        self._reader.watch(self.inputs, heard.append)
        self._reader.read(self._chunks[0])
        moments = self._moment_sums()
        self.started = time.perf_counter()
        for _ in self._chunks:
            for seen in heard:
                moments[seen.source.name, seen.mat].add(seen)
            settle(moments)

    def _read(self, after_chunk: Way) -> None:
        self.started = time.perf_counter()
        for chunk in self._chunks:
            self._reader.read(chunk)
            after_chunk()

    def _moment_sums(self) -> dict[tuple[str, int], MomentSum]:
        return {(one.name, mat): MomentSum(one.n_cols) for one in self.inputs for mat in range(one.n_mats)}


def settle(moments: dict[tuple[str, int], MomentSum]) -> None:
    for moment in moments.values():
        moment.settle()


def gflop_per_token(inputs: tuple[MatrixInput, ...]) -> float:
    """Return what H costs, counting a multiplication and an addition as two, and half of each H."""
    return sum(one.n_cols**2 * one.share * one.n_mats for one in inputs) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with Model(resolve(options.model)) as model:
        chunks = cut(default_documents(), model.vocab, options.n_ctx, options.chunks)
        with Reader(model, options.n_ctx, options.threads) as reader, blas_threads(options.threads):
            bench = Bench(reader, chunks)
            found = measure(bench, chunks.n_tokens, options.rounds)
            cost = gflop_per_token(bench.inputs)
    print(f"{chunks.n_chunks} chunks of {options.n_ctx} tokens, {options.threads} threads; H: {cost:.3f} GFLOP a token")
    for name, speeds in found.items():
        print(f"{name:10} {statistics.median(speeds):9.1f} tok/s  ({min(speeds):.1f} to {max(speeds):.1f})")
    if options.json:
        options.json.write_text(json.dumps({"gflop_per_token": cost, "tok_s": found, "threads": options.threads}))


def measure(bench: Bench, n_tokens: int, n_rounds: int) -> dict[str, list[float]]:
    """Return tokens per second of each round of each way."""
    ways: dict[str, Way] = {
        "alone": bench.alone,
        "squares": bench.squares,
        "moments": bench.moments,
        "products": bench.products,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            way()
            found[name].append(n_tokens / (time.perf_counter() - bench.started))
    return found


if __name__ == "__main__":
    main()
