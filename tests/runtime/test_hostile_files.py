"""Files made to hurt: whatever one holds, the parent gets a backend or one clear error, and soon."""

from __future__ import annotations

import collections
import concurrent.futures
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from localllm.engine import FinishEvent, GenerationRequest, SamplingParams
from localllm.errors import InvalidModelFile, LocalLLMError, UnsupportedModel
from localllm.hardware.types import LoadOptions
from localllm.runtime import TextControls
from localllm.runtime.client import WorkerBackend
from tests.runtime.conftest import Record
from tests.runtime.mutants import Spec, mutant, read_spec, to_bytes

N_DEFAULT = 32
N_SLOW = 600
MAX_S = 20.0
"""Generous, for a busy machine; each takes about half a second."""


@pytest.fixture(scope="module")
def base(tiny_path: Path) -> Spec:
    return read_spec(tiny_path)


def outcome(path: Path) -> tuple[str, str]:
    """Load a file, use it if that works, and say what became of it."""
    try:
        backend = WorkerBackend(path, LoadOptions(n_ctx=256, n_slots=2, n_threads=1, gpu_layers=0))
    except (InvalidModelFile, UnsupportedModel) as error:
        return "refused by our reader" if type(error) is InvalidModelFile else "refused by llama.cpp", str(error)
    except LocalLLMError as error:
        if "worker process ended" in str(error):
            return "crashed at load", str(error)
        return ("refused by llama.cpp" if "llama.cpp" in str(error) else "refused by us"), str(error)
    try:
        return use(backend)
    finally:
        backend.close()


def use(backend: WorkerBackend) -> tuple[str, str]:
    record = Record()
    try:
        prompt = backend.tokenize("Hello the world \0 日本語", add_special=True, parse_special=True)
        sampling = SamplingParams(seed=1)
        backend.submit(
            GenerationRequest(prompt=tuple(prompt[:100]), max_tokens=5, sampling=sampling), TextControls(), record
        )
    except LocalLLMError as error:
        return ("crashed in use" if "worker process" in str(error) else "loaded, refused a request"), str(error)
    finish = record.wait()
    assert isinstance(finish, FinishEvent)
    if finish.error is not None:
        return "crashed in use" if finish.error.kind == "WorkerCrashed" else "failed in use", finish.error.message
    return "loaded", ""


def run(base: Spec, seeds: Iterable[int], folder: Path, n_jobs: int = 2) -> list[tuple[int, str, str, str, float]]:
    def one(seed: int) -> tuple[int, str, str, str, float]:
        spec, what = mutant(base, seed)
        path = folder / f"mutant-{seed}.gguf"
        path.write_bytes(to_bytes(spec))
        started = time.perf_counter()
        kind, message = outcome(path)
        path.unlink()
        return seed, what, kind, message, time.perf_counter() - started

    with concurrent.futures.ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(one, seeds))


def check(results: list[tuple[int, str, str, str, float]]) -> None:
    for seed, what, kind, message, seconds in results:
        assert seconds < MAX_S, (seed, what, seconds)
        assert "\n" not in message, (seed, what, message)
        assert kind == "loaded" or message, (seed, what)


def test_untouched_file_survives_the_rewriting(base: Spec, tmp_path: Path) -> None:
    path = tmp_path / "same.gguf"
    path.write_bytes(to_bytes(base))
    assert outcome(path) == ("loaded", "")


def test_every_hostile_file_is_a_backend_or_an_error(base: Spec, tmp_path: Path) -> None:
    check(run(base, range(N_DEFAULT), tmp_path))


CRASHED_ONCE = (1073, 1173, 1285, 1301, 1362, 1437, 1467, 1510)
"""Weights of integers, and SentencePiece vocabularies without bytes: loaded, then ended the process in use."""


def test_files_that_crashed_in_use_are_refused_at_load(base: Spec, tmp_path: Path) -> None:
    for seed, what, kind, message, _ in run(base, CRASHED_ONCE, tmp_path):
        assert kind == "refused by our reader", (seed, what, kind, message)


def test_abort_in_a_kernel_gives_its_reason(base: Spec, tmp_path: Path) -> None:
    [(_, what, kind, message, _)] = run(base, [5062], tmp_path)
    assert "blk.1.ffn_norm.weight:1" in what and kind == "crashed in use"
    assert "unsupported types" in message


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hundreds_of_hostile_files(base: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(base, range(1000, 1000 + N_SLOW), tmp_path)
    check(results)
    counts = collections.Counter(kind for _, _, kind, _, _ in results)
    slowest = max(results, key=lambda result: result[-1])
    with capsys.disabled():
        print(f"\n{dict(counts.most_common())}; slowest {slowest[-1]:.1f} s: {slowest[1]}")  # noqa: T201
        for seed, what, kind, message, _ in results:
            if kind.startswith("crashed") or kind == "failed in use":
                print(f"  {seed} {kind}: {what} → {message}")  # noqa: T201
