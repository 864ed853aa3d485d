"""What can go wrong with a worker process, and what its parent says then."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localllm.engine import FinishEvent
from localllm.engine.events import ErrorInfo
from localllm.errors import EngineClosed, EngineError, ModelLoadFailed, RequestError, WorkerCrashed
from localllm.hardware.types import LoadOptions
from localllm.runtime import TextControls, process
from localllm.runtime.client import WorkerBackend
from localllm.runtime.protocol import Detokenize, Reply, Tokenize, frame, read_frame, to_worker_decoder
from tests.runtime.conftest import OPTIONS, Record, generate, request

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread of ours, no child and no zombie remains after a test's backends are closed."""
    threads_before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        threads = [t for t in threading.enumerate() if t not in threads_before and t.name.startswith("localllm")]
        if not threads and not own_workers():
            return
        time.sleep(0.02)
    raise AssertionError(f"left behind: {threads}, {own_workers()}")


def own_workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_worker(child)]


def is_worker(child: psutil.Process) -> bool:
    try:
        return child.status() == psutil.STATUS_ZOMBIE or "localllm.runtime.worker" in child.cmdline()
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def tiny_worker(tiny_path: Path) -> Iterator[WorkerBackend]:
    backend = WorkerBackend(tiny_path, OPTIONS)
    yield backend
    backend.close()


def faulty_worker(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let workers run `body` in place of the worker's main; `main` is the real one."""
    program = "from localllm.runtime import worker, local\nfrom localllm.runtime.worker import main\n"
    real = process.subprocess.Popen

    def popen(command: list[str], **arguments: object) -> subprocess.Popen[bytes]:
        assert command[-1] == "localllm.runtime.worker"
        return real([sys.executable, "-P", "-c", program + textwrap.dedent(body)], **arguments)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(process.subprocess, "Popen", popen)


def test_killed_worker_fails_every_request_and_later_ones(worker: WorkerBackend) -> None:
    records = [Record() for _ in range(3)]
    for record in records:
        worker.submit(request(max_tokens=None), TextControls(), record)
    records[0].wait_for_token()
    os.kill(worker.pid, signal.SIGKILL)
    for record in records:
        finish = record.wait()
        assert finish.reason == "error" and finish.error is not None
        assert finish.error.kind == "WorkerCrashed" and "SIGKILL" in finish.error.message
        assert sum(isinstance(event, FinishEvent) for event in record.events) == 1
    with pytest.raises(WorkerCrashed, match="SIGKILL") as caught:
        worker.submit(request(), TextControls(), Record())
    assert caught.value.hint is not None and "memory" in caught.value.hint
    with pytest.raises(WorkerCrashed):
        worker.stats()
    worker.cancel(1)
    worker.close()
    with pytest.raises(EngineClosed):
        worker.stats()


def test_killed_worker_answers_calls_that_wait(worker: WorkerBackend) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    faults: list[BaseException] = []

    def call() -> None:
        try:
            worker.stats()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(10)
    assert [type(fault) for fault in faults] == [WorkerCrashed] * 3


def test_stopped_worker_does_not_block_a_cancel_nor_a_close(
    worker: WorkerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_EXIT_TIMEOUT_S", 0.3)
    record = Record()
    request_id = worker.submit(request(max_tokens=None), TextControls(), record)
    os.kill(worker.pid, signal.SIGSTOP)
    started = time.monotonic()
    for _ in range(50_000):
        worker.cancel(request_id)
    assert time.monotonic() - started < 2
    worker._process.finish(0.2)
    worker.close()
    assert record.wait().reason in ("error", "cancelled")


def test_worker_killed_while_loading(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_worker(
        monkeypatch,
        "import time; from localllm.runtime import worker\n"
        "worker.LocalBackend = lambda *a, on_progress, **k: (on_progress(0.5), time.sleep(60))\n"
        "worker.main()\n",
    )

    def kill(share: float) -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(WorkerCrashed, match=r"while it loaded tiny\.gguf: signal SIGKILL"):
        WorkerBackend(tiny_path, OPTIONS, on_progress=kill)


def test_interrupted_wait_for_a_load_leaves_nothing(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_worker(monkeypatch, "import time; time.sleep(60)")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        WorkerBackend(tiny_path, OPTIONS)
    assert time.monotonic() - started < 3


def test_ctrl_c_does_not_reach_the_worker(tiny_worker: WorkerBackend) -> None:
    assert os.getpgid(tiny_worker.pid) != os.getpgid(0)
    os.kill(tiny_worker.pid, signal.SIGINT)
    assert generate(tiny_worker, request()).wait().reason == "length"


PARENT = """
import sys, time, pathlib
from localllm.hardware.types import LoadOptions
from localllm.engine import GenerationRequest, SamplingParams
from localllm.runtime import TextControls, open_backend
backend = open_backend(pathlib.Path(sys.argv[1]), LoadOptions(n_ctx=8192, n_threads=1, gpu_layers=0))
request = GenerationRequest(prompt=(39, 72), sampling=SamplingParams(temperature=0), ignore_eos=True)
backend.submit(request, TextControls(), lambda event: None)
print(backend.pid, flush=True)
time.sleep(60)
"""


def test_worker_ends_with_its_parent(slow_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(slow_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    worker.wait(10)


def test_worker_ends_with_its_parent_in_the_middle_of_a_load(tiny_path: Path) -> None:
    program = (
        "import time; from localllm.runtime import worker\n"
        "worker.LocalBackend = lambda *a, **k: time.sleep(60)\n"
        "worker.main()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert child.stdin is not None
    from localllm.runtime.protocol import Load

    child.stdin.write(frame(Load(os.fsencode(tiny_path), OPTIONS)))
    child.stdin.flush()
    time.sleep(1.0)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(5) == 0


def test_what_libraries_print_does_not_break_frames(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_worker(
        monkeypatch,
        """
        import ctypes
        tokenize = local.LocalBackend.tokenize
        def noisy(*args, **kwargs):
            libc = ctypes.CDLL(None)
            libc.printf(b"garbage from C\\n" * 100)
            libc.fflush(None)
            print("garbage from Python" * 100, flush=True)
            return tokenize(*args, **kwargs)
        local.LocalBackend.tokenize = noisy
        main()
        """,
    )
    backend = WorkerBackend(tiny_path, OPTIONS)
    try:
        for _ in range(20):
            assert backend.tokenize("the", add_special=False, parse_special=False)
        assert generate(backend, request()).wait().reason == "length"
    finally:
        backend.close()


def test_garbage_in_the_stream_is_one_clear_error(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_worker(monkeypatch, "import os, time; os.write(1, b'this is no frame at all'); time.sleep(60)")
    with pytest.raises(ModelLoadFailed, match="messages could not be read"):
        WorkerBackend(tiny_path, OPTIONS)


def test_python_failure_at_start_is_named(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_worker(monkeypatch, "raise ImportError('no such library')")
    with pytest.raises(ModelLoadFailed, match="ImportError: no such library"):
        WorkerBackend(tiny_path, OPTIONS)


CRASHES = {
    "GGML_ASSERT": (
        # Sampling where no token has logits.
        """
        from localllm.llama import SamplerChain
        chain = SamplerChain()
        chain.add_greedy()
        chain.sample(self.engine._context, 10_000)
        """,
        r"GGML_ASSERT\(logits != nullptr\) failed",
    ),
    "std::terminate": (
        # A grammar is told of a token that it forbids.
        """
        from localllm.llama import SamplerChain
        chain = SamplerChain()
        chain.add_grammar(self._model.vocab, 'root ::= "x"')
        chain.accept(0)
        """,
        r"Unexpected empty grammar stack after accepting piece",
    ),
    "SIGSEGV": (
        """
        import ctypes
        ctypes.string_at(8)
        """,
        r"signal SIGSEGV",
    ),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_crash_in_c_gives_its_reason(crash: str, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, words = CRASHES[crash]
    faulty_worker(
        monkeypatch,
        "def tokenize(self, text, **kwargs):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nlocal.LocalBackend.tokenize = tokenize\nmain()\n",
    )
    backend = WorkerBackend(tiny_path, OPTIONS)
    record = Record()
    backend.submit(request(max_tokens=900), TextControls(), record)
    with pytest.raises(WorkerCrashed, match=words):
        backend.tokenize("x", add_special=False, parse_special=False)
    assert record.wait().reason in ("error", "length")
    backend.close()


def test_a_file_named_like_a_module_is_not_run(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('run from the current folder')")
    monkeypatch.chdir(tmp_path)
    WorkerBackend(tiny_path, OPTIONS).close()


def test_error_crosses_as_its_own_class() -> None:
    for error in (RequestError("a", hint="b"), ModelLoadFailed("c"), WorkerCrashed("d", hint="e")):
        back = ErrorInfo.of(error).to_error()
        assert (type(back), back.message, back.hint) == (type(error), error.message, error.hint)
    back = ErrorInfo.of(ZeroDivisionError("x")).to_error()
    assert type(back) is EngineError and "ZeroDivisionError: x" in back.message


def test_number_that_no_frame_holds_is_a_bad_request() -> None:
    with pytest.raises(RequestError, match="too large"):
        frame(Detokenize(1, (10**30,)))


def test_frames_survive_cuts_and_lone_surrogates() -> None:
    data = frame(Tokenize(1, "a\ud800b", False, False)) + frame(Tokenize(2, "é", True, False))
    stream = io.BytesIO(data)
    first, second = read_frame(stream), read_frame(stream)
    assert first is not None and second is not None
    assert to_worker_decoder.decode(first) == Tokenize(1, "a?b", False, False)
    assert read_frame(stream) is None
    for cut in range(1, 5):
        assert read_frame(io.BytesIO(frame(Reply(1))[:-cut])) is None
    with pytest.raises(ValueError, match="a frame of"):
        read_frame(io.BytesIO(b"this is no frame"))


@pytest.mark.real
def test_demo_model_is_ready_soon() -> None:
    from tests.demo_model import require_demo_model

    started = time.perf_counter()
    backend = WorkerBackend(require_demo_model(), LoadOptions(n_ctx=2048))
    ready_s = time.perf_counter() - started
    backend.close()
    assert ready_s < 15, ready_s
