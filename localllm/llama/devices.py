"""The devices that ggml can compute on, as ggml reports them."""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
from typing import Any

from localllm.hardware.types import Device, DeviceKind
from localllm.llama.library import library

_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}


@functools.cache
def ggml_library(name: str) -> Any:
    """Return one of ggml's own shared libraries ("ggml", "ggml-base"), which lie beside libllama.

    It must be the copy that libllama has loaded, whose devices are those that models are loaded on: a wheel has each
    under several names, as files of their own. A search through libllama finds that copy, but not on Windows, where
    there is only one.
    """
    if os.name != "nt":
        return ctypes.CDLL(library()._lib._name)
    folder = pathlib.Path(library().__file__).parent / "lib"
    return ctypes.CDLL(str(folder / f"{name}.dll"))


@functools.cache
def _ggml() -> Any:
    lib = ggml_library("ggml")
    base = ggml_library("ggml-base")
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    lib.ggml_backend_dev_get.restype = ctypes.c_void_p
    for function in ("name", "description"):
        symbol = getattr(base, f"ggml_backend_dev_{function}")
        symbol.argtypes = [ctypes.c_void_p]
        symbol.restype = ctypes.c_char_p
    base.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    base.ggml_backend_dev_type.restype = ctypes.c_int
    size_p = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_p, size_p]
    base.ggml_backend_dev_memory.restype = None
    return lib, base


def list_devices() -> tuple[Device, ...]:
    """Return the devices of the installed llama.cpp, with their memory of now in bytes."""
    lib, base = _ggml()
    devices = []
    for index in range(lib.ggml_backend_dev_count()):
        handle = lib.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        devices.append(
            Device(
                name=base.ggml_backend_dev_name(handle).decode(),
                description=base.ggml_backend_dev_description(handle).decode(),
                kind=_KINDS.get(base.ggml_backend_dev_type(handle), "accel"),
                memory_total_bytes=total.value,
                memory_free_bytes=free.value,
            )
        )
    return tuple(devices)
