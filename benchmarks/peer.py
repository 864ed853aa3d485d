"""The peer: llama.cpp's own server (the prebuilt `xllamacpp` wheel) in a subprocess, and a light client for it.

The client reads raw bytes with their arrival times and parses them when the stream has ended, so that it takes as
little of the machine as it can. The server process ends with its stdin, or after an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import Any

from ours import WAIT_S, Settings

_START_S = 120.0
_MAX_LIFE_S = 3600.0


class PeerStream:
    """One /completion request; `times` and `text` are known once it has ended."""

    def __init__(self, port: int, prompt: list[int], n_tokens: int, *, reuse: bool = False) -> None:
        body = json.dumps(
            {
                "prompt": prompt,
                "n_predict": n_tokens,
                "temperature": 0.0,
                "ignore_eos": True,
                "cache_prompt": reuse,
                "stream": True,
            }
        ).encode()
        head = (
            f"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self._received: list[tuple[float, bytes]] = []
        self.has_first = threading.Event()
        self.times_s: list[float] = []
        self.text = ""
        self.final: dict[str, Any] = {}
        self.started_s = time.perf_counter()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
        self._thread = threading.Thread(target=self._read, name="peer-stream", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self._received.append((time.perf_counter(), data))
                if b"data: " in data:
                    self.has_first.set()
        self.has_first.set()

    def cancel(self) -> None:
        """Close the connection; the server then stops the request."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def wait(self) -> PeerStream:
        """Read to the end of the stream and parse it.

        Raises:
            RuntimeError: the server refused the request or hangs.
        """
        self._thread.join(WAIT_S)
        self._socket.close()
        if self._thread.is_alive():
            raise RuntimeError("the peer hangs")
        pieces, pending = [], b""
        for when, data in self._received:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    pieces.append(event.get("content", ""))
                    if event.get("stop"):
                        self.final = event
                    elif event.get("tokens") or event.get("content"):
                        self.times_s.append(when)
        if not self.times_s:
            raise RuntimeError(f"the peer gave no token: {b''.join(d for _, d in self._received)[:300]!r}")
        self.text = "".join(pieces)
        return self

    @property
    def n_tokens(self) -> int:
        """What the server says it generated; a stream that was cancelled has only what arrived."""
        return int(self.final.get("tokens_predicted", len(self.times_s)))

    @property
    def ttft_s(self) -> float:
        return self.times_s[0] - self.started_s

    @property
    def last_s(self) -> float:
        return self.times_s[-1]


class Peer:
    """A running server.

    Args:
        settings: the same as ours.
        reuse: keep prompts in the cache and in RAM for later requests, as it does unless told otherwise.
        spec: its kind of speculation.
    """

    def __init__(self, settings: Settings, *, reuse: bool = False, spec: str = "none") -> None:
        self.port = _free_port()
        self._reuse = reuse
        self._log: list[str] = []
        self._process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                str(settings.path),
                *_flags(settings, self.port),
                f"--reuse={int(reuse)}",
                f"--spec={spec}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=os.name == "posix",
        )
        threading.Thread(target=self._drain, name="peer-log", daemon=True).start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log = [*self._log[-20:], line.rstrip()]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError("the peer ended: " + " | ".join(self._log[-5:]))
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as reply,
            ):
                if reply.status == 200:
                    return
            time.sleep(0.2)
        raise RuntimeError("the peer does not answer")

    def start(self, prompt: list[int], n_tokens: int) -> PeerStream:
        """Send a greedy request that does not stop at the end of a turn."""
        return PeerStream(self.port, prompt, n_tokens, reuse=self._reuse)

    def run(self, prompt: list[int], n_tokens: int) -> PeerStream:
        return self.start(prompt, n_tokens).wait()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flags(settings: Settings, port: int) -> list[str]:
    values = {
        "port": port,
        "ctx": settings.n_ctx,
        "slots": settings.n_slots,
        "threads": settings.n_threads,
        "batch": settings.n_batch,
        "ubatch": settings.n_ubatch,
        "kv": settings.kv_type,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve() -> None:
    """Run the server in this process until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    for name in ("port", "ctx", "slots", "threads", "batch", "ubatch", "reuse"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--spec", default="none")
    parser.add_argument("--kv", choices=["f16", "q8_0"], required=True)
    args = parser.parse_args()
    import xllamacpp as xlc

    params = xlc.CommonParams()
    params.model.path = args.model
    params.port = args.port
    params.n_parallel = args.slots
    params.n_ctx = args.ctx
    params.n_batch = args.batch
    params.n_ubatch = args.ubatch
    params.n_gpu_layers = 0
    params.kv_unified = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    if not args.reuse:
        # Spare the server the copies that its RAM cache would make.
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
    if args.kv == "q8_0":
        params.cache_type_k = params.cache_type_v = xlc.ggml_type.GGML_TYPE_Q8_0
    kind = "COMMON_SPECULATIVE_TYPE_" + args.spec.replace("-", "_").upper()
    params.speculative.types = [getattr(xlc.common_speculative_type, kind)]
    server = xlc.Server(params)
    print(server.listening_address, file=sys.stderr, flush=True)
    threading.Timer(_MAX_LIFE_S, os._exit, (0,)).start()
    while sys.stdin.readline():
        pass
    os._exit(0)


if __name__ == "__main__":
    _serve()
