"""Threads that encode rows side by side. ggml's encoders release Python's interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from localllm.llama.encoding import encode

Item = TypeVar("Item")
Result = TypeVar("Result")
BLOCK_WEIGHTS = 1 << 18
"""Weights that a thread encodes at a time: some 20 ms, so that calls cost nothing and Ctrl-C is soon heard."""


class Workers:
    """Threads for one run; to be closed."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="quantize")

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call `function` for each item on all threads, and return the results in order."""
        return list(self._pool.map(function, items))

    def map_rows(
        self,
        function: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
        rows: NDArray[np.float32],
        step: int | None = None,
    ) -> NDArray[np.uint8]:
        """Call `function` for blocks of rows on all threads, and put what it returns together in order.

        `step` is the number of rows of a block; None for `BLOCK_WEIGHTS`.
        """
        n_rows, n_cols = rows.shape
        step = step or max(1, BLOCK_WEIGHTS // n_cols)
        blocks = [rows[start : start + step] for start in range(0, n_rows, step)]
        return np.concatenate(self.map(function, blocks))

    def encode(
        self, kind: str, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None
    ) -> NDArray[np.uint8]:
        """Encode rows as `localllm.llama.encoding.encode` does, on all threads."""
        return self.map_rows(lambda block: encode(kind, block, importance), rows)
