"""Callbacks that llama.cpp makes while it computes: to ask whether to stop, and to show tensors."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from localllm.llama.library import library

_Number = TypeVar("_Number", np.float32, np.int32)
_F32, _I32 = 0, 26
"""ggml's numbers of the two types."""


class AbortFlag:
    """A byte that ends the running decode when it is set, CPU and Metal only.

    llama.cpp asks an abort callback some 500 times a batch; a Python one costs 2-5 % of decode speed. So the callback
    is the C library's own `strlen` over a two-byte string: empty says go on, one character says stop.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        libc = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
        address = ctypes.cast(libc.strlen, ctypes.c_void_p).value
        self.callback: Any = library().ggml_abort_callback(address)
        self.data = ctypes.cast(self._text, ctypes.c_void_p)

    def set(self) -> None:
        """Ask the running decode to end; may be called from any thread."""
        self._text[0] = b"!"

    def clear(self) -> None:
        self._text[0] = b"\0"

    @property
    def is_set(self) -> bool:
        return self._text.raw[0] != 0


class _GgmlTensor(ctypes.Structure):
    """The head of `struct ggml_tensor`, as ggml.h declares it at the pinned version; op_params and later are cut."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class TensorView:
    """A tensor of the running graph, valid only inside the callback that received it."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._tensor = _GgmlTensor.from_address(address)

    @property
    def name(self) -> str:
        name: bytes = self._tensor.name
        return name.decode("utf-8", "replace")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """ggml's ne: the fastest-varying dimension first."""
        return tuple(self._tensor.ne)

    @property
    def type_id(self) -> int:
        type_id: int = self._tensor.type
        return type_id

    @property
    def op(self) -> str:
        """The operation that makes this tensor, as ggml names it: "MUL_MAT"; "NONE" for weights and inputs."""
        name: bytes = _ggml_base().ggml_op_name(self._tensor.op)
        return name.decode()

    @property
    def place(self) -> tuple[int, int, int]:
        """What two tensors share if they are the same values, reshaped or not; valid in one graph only."""
        root = self._tensor.view_src or self._address
        return root, self._tensor.view_offs, math.prod(self.shape)

    def source(self, index: int) -> TensorView | None:
        """Return the `index`-th input of the operation that makes this tensor."""
        address = self._tensor.src[index]
        return TensorView(address) if address else None

    def read_f32(self) -> NDArray[np.float32]:
        """Copy an F32 tensor to the host: shape ne reversed, float32.

        Raises:
            ValueError: the tensor is not F32.
        """
        return self._read(_F32, np.float32)

    def read_i32(self) -> NDArray[np.int32]:
        """Copy an I32 tensor to the host: shape ne reversed, int32.

        Raises:
            ValueError: the tensor is not I32.
        """
        return self._read(_I32, np.int32)

    def _read(self, type_id: int, dtype: type[_Number]) -> NDArray[_Number]:
        """Copy the bytes from the first value to the last, and look at them with ggml's strides."""
        if self.type_id != type_id:
            raise ValueError(f"{self.name} has ggml type {self.type_id}, not {type_id}")
        nb = tuple(self._tensor.nb)
        n_bytes = np.dtype(dtype).itemsize + sum((n - 1) * stride for n, stride in zip(self.shape, nb, strict=True))
        raw = np.empty(n_bytes, dtype=np.uint8)
        _ggml_base().ggml_backend_tensor_get(
            ctypes.c_void_p(self._address), ctypes.c_void_p(raw.ctypes.data), 0, n_bytes
        )
        values: NDArray[_Number] = np.ndarray(self.shape[::-1], dtype, buffer=raw.data, strides=nb[::-1])
        return values


class EndGraph(Exception):
    """Raised by `take`: the rest of the graph is not needed, and the decode returns as if it were computed.

    Logits and embeddings of that decode are then undefined, and so is the memory of the layers that were left out. Only
    where one device computes all: of several, each would go on with what the one before left.
    """


class EvalCallback:
    """Shows the graph's tensors while it runs: `wants` says which by name, `take` receives each once computed.

    An exception in either ends the decode, which then raises it; `EndGraph` in `take` ends it without.
    """

    def __init__(self, wants: Callable[[TensorView], bool], take: Callable[[TensorView], None]) -> None:
        self._error: BaseException | None = None

        def on_tensor(address: int, ask: bool, _data: object) -> bool:
            try:
                if self._error is not None:
                    return ask
                view = TensorView(address)
                if ask:
                    return wants(view)
                take(view)
            except EndGraph:
                return False
            except BaseException as error:
                # ctypes would only print it. Asking for the tensor leads to the call that can end the graph.
                self._error = error
                return ask
            return True

        self.callback: Any = library().ggml_backend_sched_eval_callback(on_tensor)

    @contextmanager
    def holding_interrupts(self) -> Iterator[None]:
        """Have Ctrl-C end the decode meanwhile, which then raises it, on the main thread.

        Python looks for signals when a function begins, so it would raise KeyboardInterrupt before the callback can
        catch it, and ctypes would drop it. A handler of somebody else's is left in place.
        """
        is_ours = threading.current_thread() is threading.main_thread()
        if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_interrupt(self, _signal: int, _frame: object) -> None:
        self._error = self._error or KeyboardInterrupt()

    def reraise(self) -> None:
        """Raise what `wants` or `take` raised during the last decode, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error


@functools.cache
def _ggml_base() -> Any:
    from localllm.llama.devices import ggml_library

    lib = ggml_library("ggml-base")
    lib.ggml_backend_tensor_get.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
    ]
    lib.ggml_backend_tensor_get.restype = None
    lib.ggml_op_name.argtypes = [ctypes.c_int]
    lib.ggml_op_name.restype = ctypes.c_char_p
    return lib
