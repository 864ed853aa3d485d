"""Loading the shared library once, and keeping what it says."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger("localllm.llama")

_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.DEBUG, 4: logging.INFO}
"""ggml's levels (debug, info, warning, error). Its errors are raised as ours, so the log only repeats them."""
_ERROR, _CONTINUED = 4, 5
_lock = threading.Lock()
_lib: Any = None
_keep_alive: list[Any] = []


class _LogLines(threading.local):
    """llama.cpp's log, put together line by line; errors are kept so that a failed call can say why.

    Each thread has its own, so that two models that load at once do not tell each other's reasons.
    """

    def __init__(self) -> None:
        self._level = _ERROR
        self._line = ""
        self.errors: deque[str] = deque(maxlen=16)
        self.kept: list[str] | None = None
        """Every line, while somebody keeps them."""

    def write(self, level: int, text: str) -> None:
        if level != _CONTINUED:
            self._level = level
        self._line += text
        while "\n" in self._line:
            line, self._line = self._line.split("\n", 1)
            if not line.strip():
                continue
            if self._level == _ERROR:
                self.errors.append(line)
            if self.kept is not None:
                self.kept.append(line)
            log.log(_LEVELS.get(self._level, logging.DEBUG), "%s", line)


_lines = _LogLines()


def _on_log(level: int, text: bytes, _data: object) -> None:
    _lines.write(level, text.decode("utf-8", "replace"))


def library() -> Any:
    """Return the `llama_cpp` bindings, loaded and initialised.

    The import takes about a quarter of a second, so it happens on the first use.
    """
    global _lib
    with _lock:
        if _lib is None:
            from llama_cpp import llama_cpp

            callback = llama_cpp.llama_log_callback(_on_log)
            _keep_alive.append(callback)
            llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
            llama_cpp.llama_backend_init()
            _lib = llama_cpp
    return _lib


@contextmanager
def kept_log() -> Iterator[list[str]]:
    """Collect the lines of any level that llama.cpp logs on this thread meanwhile; some facts it tells only there."""
    lines = _lines.kept = []
    try:
        yield lines
    finally:
        _lines.kept = None


def last_log_errors(*, clear: bool = False) -> list[str]:
    """Return the error lines that llama.cpp logged on this thread since the last clearing, oldest first."""
    lines = list(_lines.errors)
    if clear:
        _lines.errors.clear()
    return lines


def first_log_error() -> str:
    """Return the first error of this thread's failed call, or a stand-in, and clear them all."""
    reasons = (reason(line) for line in last_log_errors(clear=True))
    return next((text for text in reasons if any(map(str.isalpha, text))), "no reason given")


_NO_MEMORY = re.compile(r"out of memory|(?:failed|unable|cannot) to alloc|alloc\w* .*failed", re.IGNORECASE)


def says_no_memory(lines: Iterable[str]) -> bool:
    """Return whether an error line of the log says that memory was refused, as the backends put it."""
    return any(_NO_MEMORY.search(line) for line in lines)


def reason(line: str) -> str:
    """Strip "function: error loading model: " from a log line."""
    text = line.split("error loading model: ", 1)[-1]
    head, sep, tail = text.partition(": ")
    return (tail if sep and " " not in head else text).strip()


def path_bytes(path: Path) -> bytes:
    """Return a path as llama.cpp takes it: UTF-8 on Windows, the file system's own bytes elsewhere."""
    return os.fsencode(path)


def build_info() -> str:
    """Return llama.cpp's version, which the KV cache format and the speed depend on.

    And that of the bindings that brought it: llama.cpp's own stays "dev" over many commits.
    """
    version: bytes = library().llama_version()
    from llama_cpp import __version__

    return f"{version.decode()} (llama-cpp-python {__version__})"


def system_info() -> str:
    """Return llama.cpp's line of CPU features and backends."""
    info: bytes = library().llama_print_system_info()
    return info.decode().strip()


def used_features() -> frozenset[str]:
    """Return what llama.cpp was built with, as far as this CPU has it: "AVX2", "REPACK", "OPENMP"."""
    words = (part.rpartition(":")[2].split("=") for part in system_info().split("|"))
    return frozenset(pair[0].strip() for pair in words if len(pair) == 2 and pair[1].strip() not in ("", "0"))


def cpu_features() -> frozenset[str]:
    """Return what llama.cpp uses of the CPU; of what it was built with, that is all but what fails here."""
    from localllm.llama.amx import FEATURE, amx_fails

    return used_features() - {FEATURE, "REPACK"} if amx_fails() else used_features()
