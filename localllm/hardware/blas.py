"""How many threads NumPy's BLAS uses. It has a pool of its own, which knows nothing of llama.cpp's.

Neither works while the other does: rows are kept while llama.cpp computes, and multiplied between its batches.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_PREFIXES = ("scipy_openblas", "openblas")
_SUFFIXES = ("64_", "")


@contextmanager
def blas_threads(n_threads: int) -> Iterator[bool]:
    """Have BLAS use `n_threads` meanwhile; yields whether it can be told.

    NumPy's wheels bring OpenBLAS. Where it is another (Accelerate), or cannot be found (Windows), it does as it likes.
    """
    found = _openblas()
    if found is None:
        yield False
        return
    get, put = found
    before = get()
    put(n_threads)
    try:
        yield True
    finally:
        put(before)


@functools.cache
def _openblas() -> tuple[Any, Any] | None:
    """Return OpenBLAS' functions that say and set the number of threads, or None."""
    numpy_core: Any = import_module("numpy._core._multiarray_umath")
    # A symbol is also looked for in the libraries that this one was linked with.
    library = ctypes.CDLL(numpy_core.__file__)
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            try:
                get = getattr(library, f"{prefix}_get_num_threads{suffix}")
                put = getattr(library, f"{prefix}_set_num_threads{suffix}")
            except AttributeError:
                continue
            put.argtypes, put.restype = [ctypes.c_int], None
            return get, put
    return None
