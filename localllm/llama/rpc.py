"""llama.cpp's RPC backend: other machines' devices, used like this one's.

An RPC server has no key and no encryption, and a machine that leaves while a model is spread over it ends this process:
so a model with RPC devices belongs in a worker process.

Source: llama.cpp common/arg.cpp, `add_rpc_devices`; ggml/src/ggml-rpc.
"""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Sequence
from typing import Any

from localllm.errors import RequestError, ServerError, ServerUnreachable
from localllm.llama.devices import ggml_library
from localllm.llama.library import library

BUILD_LINE = 'CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python'
_CONNECT_S = 5.0
_lock = threading.Lock()
_added: set[str] = set()


def supports_rpc() -> bool:
    """Return whether the installed llama.cpp has the RPC backend."""
    return bool(library().llama_supports_rpc())


def add_rpc_servers(endpoints: Sequence[str]) -> None:
    """Make the devices of RPC servers known to this process; `list_devices` has them from then on.

    Args:
        endpoints: "host:port" each.

    Raises:
        RequestError: the installed llama.cpp has no RPC backend.
        ServerUnreachable: nothing answers at an endpoint.
        ServerError: what answers has no devices.
    """
    if not endpoints:
        return
    if not supports_rpc():
        from llama_cpp import __version__

        raise RequestError(
            f"--rpc needs llama.cpp's RPC backend, which the installed llama-cpp-python {__version__} does not have.",
            hint=f"Build it in: {BUILD_LINE} llama-cpp-python=={__version__}",
        )
    with _lock:
        for endpoint in endpoints:
            if endpoint not in _added:
                _check_reachable(endpoint)
                _add(endpoint)
                _added.add(endpoint)


def _check_reachable(endpoint: str) -> None:
    """Refuse here what would end the process in ggml."""
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise ServerUnreachable(
            f"No RPC server answers at {endpoint}: {reason}.",
            hint="Start llama.cpp's ggml-rpc-server there, of the same version, with --host and --port.",
        ) from error


def _add(endpoint: str) -> None:
    lib, base = _functions()
    address = base.ggml_backend_reg_get_proc_address(
        lib.ggml_backend_reg_by_name(b"RPC"), b"ggml_backend_rpc_add_server"
    )
    add_server = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)
    registered = add_server(endpoint.encode())
    if not registered:
        raise ServerError(f"The RPC server at {endpoint} has no devices.", hint="See its log.")
    lib.ggml_backend_register(registered)


def _functions() -> tuple[Any, Any]:
    lib, base = ggml_library("ggml"), ggml_library("ggml-base")
    lib.ggml_backend_reg_by_name.argtypes = [ctypes.c_char_p]
    lib.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    lib.ggml_backend_register.argtypes = [ctypes.c_void_p]
    lib.ggml_backend_register.restype = None
    base.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    base.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
    return lib, base
