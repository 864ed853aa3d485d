"""llama.cpp's RPC backend: refused by name where the installed library lacks it, and the same answers where it has it.

For the second, LOCALLLM_TEST_RPC_LIBRARY names the backend as a library of its own: ggml-rpc.cpp and transport.cpp of
this llama.cpp, compiled with -DGGML_BACKEND_DL -DGGML_BACKEND_BUILD -DGGML_BACKEND_SHARED and linked to libggml-base.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.config import load_settings
from localllm.errors import RequestError
from localllm.llama import add_rpc_servers, supports_rpc
from localllm.llama.library import library
from tests.tiny_model import write_tiny_model

RPC_LIBRARY = os.environ.get("LOCALLLM_TEST_RPC_LIBRARY", "")
needs_library = pytest.mark.skipif(not RPC_LIBRARY, reason="LOCALLLM_TEST_RPC_LIBRARY is not set")


def test_the_library_is_asked_whether_it_has_the_backend() -> None:
    assert supports_rpc() is bool(library().llama_supports_rpc())


@pytest.mark.skipif(supports_rpc(), reason="this llama.cpp has the RPC backend")
def test_without_the_backend_the_flag_is_refused_with_the_line_that_builds_it() -> None:
    add_rpc_servers(())
    with pytest.raises(RequestError, match=r"--rpc needs llama.cpp's RPC backend") as caught:
        add_rpc_servers(["127.0.0.1:50052"])
    assert 'CMAKE_ARGS="-DGGML_RPC=on" pip install' in str(caught.value.hint)


def test_endpoints_are_hosts_with_ports() -> None:
    assert load_settings({"rpc": "10.0.0.5:50052, [::1]:1"}).rpc == ("10.0.0.5:50052", "[::1]:1")
    assert load_settings({"rpc": "none"}).rpc == ()
    for text in ("10.0.0.5", "lab:", "lab:70000", "lab:1;lab:2", ""):
        with pytest.raises(RequestError, match="HOST:PORT"):
            load_settings({"rpc": text})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rpc") / "tiny.gguf"
    write_tiny_model(path, n_ctx=512)
    return path


def rpc_process(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.llama.rpc_process", RPC_LIBRARY, *arguments]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An RPC server in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(rpc_process("serve", str(port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def answer(model: Path, endpoints: str) -> Any:
    done = subprocess.run(rpc_process("run", str(model), endpoints), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_library
def test_two_processes_answer_as_one(model: Path, endpoint: str) -> None:
    alone, spread = answer(model, "none"), answer(model, endpoint)
    assert alone["n_gpu_layers"] == 0 and spread["n_gpu_layers"] > 0
    assert spread["text"] == alone["text"] != ""


@needs_library
def test_a_server_that_is_not_there_is_told_of(model: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    done = subprocess.run(rpc_process("run", str(model), endpoint), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"No RPC server answers at {endpoint}" in done.stderr
