"""How fast a device multiplies matrices, by ggml's own kernels: what tokens a second are predicted from.

It makes its own small graphs and touches no model. The weights are one repeated byte, which is a number of ordinary
size in every type; no kernel's time depends on the values.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from localllm.errors import EngineError
from localllm.gguf.types import GGML_TYPES_BY_NAME
from localllm.llama.devices import ggml_library
from localllm.llama.library import library

_FILLING = 0x22
_F32, _I32 = 0, 26
_NEOX = 2
_N_LAYERS = 16
_NODE_BYTES = 512
"""Of a tensor's description, and more."""
_GET_BUFFER_TYPES = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)


class Product(NamedTuple):
    """A matrix of (n_out, n_in) weights to multiply with."""

    type: str
    """ggml's name."""
    n_in: int
    n_out: int
    is_repacked: bool
    """In the order that the CPU likes."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Bench:
    """Times matrix products on one device. Close it.

    Args:
        device: its name, as `list_devices` gives it.
        n_threads: of the CPU; other devices take no notice.

    Raises:
        EngineError: there is no such device, or it cannot be used.
    """

    def __init__(self, device: str, n_threads: int) -> None:
        library()
        self._ggml, self._base = _libraries()
        self._device = self._ggml.ggml_backend_dev_by_name(device.encode())
        self._backend = self._device and self._base.ggml_backend_dev_init(self._device, None)
        if not self._backend:
            raise EngineError(f"The device {device} cannot be used.", hint="Look at: localllm doctor")
        if self._base.ggml_backend_dev_type(self._device) == 0:
            ggml_library("ggml-cpu").ggml_backend_cpu_set_n_threads(ctypes.c_void_p(self._backend), n_threads)

    def products_s(self, products: Sequence[Product], n_cols: int, *, woven: str = "CPU_REPACK") -> float:
        """Return the seconds that these products take, one after the other, at their fastest.

        Args:
            products: all are held in memory together.
            n_cols: inputs of each: 1 as in decoding, more as in prefill.
            woven: llama.cpp's name of the buffers that repacked weights lie in.

        Raises:
            EngineError: there is not the memory for it, or it cannot be computed.
        """
        base = self._base
        with ExitStack() as stack:
            plain, reordered, values = (stack.enter_context(self._tensors(len(products))) for _ in range(3))
            graph, inputs = base.ggml_new_graph(values), {}
            weights = []
            for product in products:
                if product.n_in not in inputs:
                    inputs[product.n_in] = base.ggml_new_tensor_2d(values, _F32, product.n_in, n_cols)
                home, kind = reordered if product.is_repacked else plain, GGML_TYPES_BY_NAME[product.type].id
                weights.append(base.ggml_new_tensor_2d(home, kind, product.n_in, product.n_out))
                result = base.ggml_mul_mat(values, weights[-1], inputs[product.n_in])
                base.ggml_build_forward_expand(graph, result)
            repacked = [product.is_repacked for product in products]
            if not all(repacked):
                stack.enter_context(self._allocated(plain, None))
            if any(repacked):
                stack.enter_context(self._allocated(reordered, self._extra_buffer(woven)))
            stack.enter_context(self._allocated(values, None))
            for tensor, whole in zip(weights, repacked, strict=True):
                self._fill(tensor, base.ggml_nbytes(tensor), whole=whole)
            for tensor in inputs.values():
                self._fill(tensor, base.ggml_nbytes(tensor), whole=False)
            return self._fastest_s(graph)

    def between_s(self, n_embd: int, n_ff: int, head_dim: int, n_head: int) -> float:
        """Return the seconds that a decoder's layer takes between its products: norms, rotations, activations.

        Attention itself is not in it; it grows with the context.
        """
        base = self._base
        with self._tensors(_N_LAYERS * 14) as context:
            narrow, wide = (base.ggml_new_tensor_2d(context, _F32, width, 1) for width in (n_embd, n_ff))
            heads = base.ggml_new_tensor_3d(context, _F32, head_dim, n_head, 1)
            place = base.ggml_new_tensor_1d(context, _I32, 1)
            graph = base.ggml_new_graph(context)
            stream = narrow
            for _ in range(_N_LAYERS):
                ends = [base.ggml_rope(context, heads, place, head_dim, _NEOX) for _ in "QK"]
                for _ in ("attention", "feed-forward"):
                    normed = base.ggml_mul(context, base.ggml_rms_norm(context, stream, 1e-5), narrow)
                    stream = base.ggml_add(context, stream, normed)
                ends += [stream, base.ggml_mul(context, base.ggml_silu(context, wide), wide)]
                for end in ends:
                    base.ggml_build_forward_expand(graph, end)
            with self._allocated(context, None):
                for tensor in (narrow, wide, heads, place):
                    self._fill(tensor, base.ggml_nbytes(tensor), whole=False)
                return self._fastest_s(graph) / _N_LAYERS

    def close(self) -> None:
        """Free the device; closing twice is harmless."""
        if self._backend:
            self._base.ggml_backend_free(self._backend)
            self._backend = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _tensors(self, n_nodes: int) -> Iterator[Any]:
        n_bytes = _NODE_BYTES * 2 * (n_nodes + 8) + self._base.ggml_graph_overhead()
        context = self._base.ggml_init(_InitParams(n_bytes, None, True))
        try:
            yield context
        finally:
            self._base.ggml_free(context)

    @contextmanager
    def _allocated(self, context: Any, buffer_type: int | None) -> Iterator[None]:
        kind = buffer_type or self._base.ggml_backend_get_default_buffer_type(self._backend)
        buffer = self._base.ggml_backend_alloc_ctx_tensors_from_buft(context, kind)
        if not buffer:
            raise EngineError("There is not the memory to measure this device's speed.", hint="End other programs.")
        try:
            yield
        finally:
            self._base.ggml_backend_buffer_free(buffer)

    def _fill(self, tensor: Any, n_bytes: int, *, whole: bool) -> None:
        """Write a tensor: a repacked one through the function that changes the order, which wants all of it."""
        if whole:
            data = (ctypes.c_char * n_bytes)()
            ctypes.memset(data, _FILLING, n_bytes)
            self._base.ggml_backend_tensor_set(tensor, data, 0, n_bytes)
        else:
            self._base.ggml_backend_tensor_memset(tensor, _FILLING, 0, n_bytes)

    def _extra_buffer(self, name: str) -> int:
        registry = self._base.ggml_backend_dev_backend_reg(self._device)
        address = self._base.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
        types = _GET_BUFFER_TYPES(address)(self._device) if address else None
        index = 0
        while types and types[index]:
            kind = types[index]
            if self._base.ggml_backend_buft_name(kind) == name.encode():
                return int(kind)
            index += 1
        raise EngineError("This llama.cpp does not repack weights.", hint="Measure them as they are.")

    def _fastest_s(self, graph: Any, n_runs: int = 4) -> float:
        """Return the least time of a few runs: whatever else the machine does only adds to it."""
        times = []
        for _ in range(n_runs + 1):
            started = time.perf_counter()
            if self._base.ggml_backend_graph_compute(self._backend, graph) != 0:
                raise EngineError("The device failed to multiply two matrices.", hint="Look at: localllm doctor")
            times.append(time.perf_counter() - started)
        return min(times[1:])


@functools.cache
def _libraries() -> tuple[Any, Any]:
    """Return ggml's libraries, with what their functions take and return."""
    ggml, base = ggml_library("ggml"), ggml_library("ggml-base")
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    ggml.ggml_backend_dev_by_name.argtypes, ggml.ggml_backend_dev_by_name.restype = [ctypes.c_char_p], pointer
    functions: dict[str, tuple[Any, list[Any]]] = {
        "ggml_init": (pointer, [_InitParams]),
        "ggml_free": (None, [pointer]),
        "ggml_new_tensor_2d": (pointer, [pointer, number, ctypes.c_int64, ctypes.c_int64]),
        "ggml_new_tensor_1d": (pointer, [pointer, number, ctypes.c_int64]),
        "ggml_new_tensor_3d": (pointer, [pointer, number, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]),
        "ggml_mul_mat": (pointer, [pointer] * 3),
        "ggml_add": (pointer, [pointer] * 3),
        "ggml_mul": (pointer, [pointer] * 3),
        "ggml_silu": (pointer, [pointer] * 2),
        "ggml_rms_norm": (pointer, [pointer, pointer, ctypes.c_float]),
        "ggml_rope": (pointer, [pointer, pointer, pointer, number, number]),
        "ggml_nbytes": (size, [pointer]),
        "ggml_new_graph": (pointer, [pointer]),
        "ggml_graph_overhead": (size, []),
        "ggml_build_forward_expand": (None, [pointer, pointer]),
        "ggml_backend_dev_init": (pointer, [pointer, ctypes.c_char_p]),
        "ggml_backend_dev_type": (number, [pointer]),
        "ggml_backend_dev_backend_reg": (pointer, [pointer]),
        "ggml_backend_reg_get_proc_address": (pointer, [pointer, ctypes.c_char_p]),
        "ggml_backend_buft_name": (ctypes.c_char_p, [pointer]),
        "ggml_backend_get_default_buffer_type": (pointer, [pointer]),
        "ggml_backend_alloc_ctx_tensors_from_buft": (pointer, [pointer, pointer]),
        "ggml_backend_buffer_free": (None, [pointer]),
        "ggml_backend_tensor_set": (None, [pointer, pointer, size, size]),
        "ggml_backend_tensor_memset": (None, [pointer, ctypes.c_uint8, size, size]),
        "ggml_backend_graph_compute": (number, [pointer, pointer]),
        "ggml_backend_free": (None, [pointer]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(base, name)
        function.restype, function.argtypes = result, arguments
    return ggml, base
