"""Choosing where a model lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localllm.hardware.types import LoadOptions
from localllm.runtime.backend import Backend


def open_backend(
    path: Path,
    options: LoadOptions,
    *,
    in_process: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> Backend:
    """Load a model and return its backend.

    A llama.cpp assertion ends its process, so the default is a worker process: then a crash is an error, not an exit.

    Args:
        path: a GGUF file.
        options: what the planner shall respect.
        in_process: load in this process; saves a process, risks it.
        on_progress: called with the loaded share, 0 to 1, on a thread of the backend's.

    Raises:
        ModelError: the file cannot be used.
        NotEnoughMemory: it does not fit.
        RequestError: an option has a value that is not allowed.
        ServerError: an RPC server is not there.
        WorkerCrashed: the worker was ended from outside while it loaded; a crash over the file is a ModelLoadFailed.
    """
    # A machine that leaves ends the process that computes on it.
    if in_process and not options.rpc:
        from localllm.runtime.local import LocalBackend

        return LocalBackend(path, options, on_progress=on_progress)
    from localllm.runtime.client import WorkerBackend

    return WorkerBackend(path, options, on_progress=on_progress)
