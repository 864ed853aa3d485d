"""A process with llama.cpp's RPC backend, which the installed library may lack: it is loaded from a file of its own.

rpc_process.py LIBRARY serve PORT
rpc_process.py LIBRARY run MODEL ENDPOINT[,ENDPOINT] | run MODEL none
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

from localllm.hardware.types import LoadOptions
from localllm.llama.devices import ggml_library
from localllm.llama.library import library
from localllm.llm import LLM, TextDelta
from localllm.runtime.local import LocalBackend


def load_backend(path: str) -> None:
    library()
    lib = ggml_library("ggml")
    lib.ggml_backend_load.argtypes = [ctypes.c_char_p]
    lib.ggml_backend_load.restype = ctypes.c_void_p
    if not lib.ggml_backend_load(path.encode()):
        sys.exit(f"cannot load {path}")


def serve(path: str, port: str) -> None:
    """Serve the CPU until the process is ended."""
    lib = ggml_library("ggml")
    lib.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    devices = (ctypes.c_void_p * 1)(lib.ggml_backend_dev_by_type(0))
    start = ctypes.CDLL(path).ggml_backend_rpc_start_server
    start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    start(f"127.0.0.1:{port}".encode(), None, 1, 1, devices)


def run(model: str, endpoints: str) -> None:
    """Print the tokens of a greedy answer, and where its layers were."""
    rpc = () if endpoints == "none" else tuple(endpoints.split(","))
    options = LoadOptions(
        n_ctx=256, n_slots=1, n_threads=1, rpc=rpc, gpu_layers="all" if rpc else 0, kv_type_k="q8_0", kv_type_v="q8_0"
    )
    with LLM(LocalBackend(Path(model), options)) as llm:
        stream = llm.generate("Name three colours:", temperature=0.0, max_tokens=24, spec="off")
        text = "".join(event.text for event in stream if isinstance(event, TextDelta))
        sys.stdout.write(json.dumps({"text": text, "n_gpu_layers": llm.info.n_gpu_layers}))


if __name__ == "__main__":
    load_backend(sys.argv[1])
    {"serve": lambda: serve(sys.argv[1], sys.argv[3]), "run": lambda: run(sys.argv[3], sys.argv[4])}[sys.argv[2]]()
