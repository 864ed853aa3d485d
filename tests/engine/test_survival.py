"""Processes that are killed while they save: what is left is whole or not there, and the next start works."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import as_tokens
from localllm.llama import Model
from tests.engine.driving import STEADY_KV, EngineFactory, generate, wait_until
from tests.engine.survivor import N_TOKENS, PROMPT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")

SAVER = """
import resource, sys
from pathlib import Path
import numpy as np
from localllm.engine.kv_store import KVStore
folder, max_bytes, first, last, max_file_bytes = (Path(sys.argv[1]), *map(int, sys.argv[2:]))
if max_file_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
store = KVStore(folder, "model", max_bytes)
for i in range(first, last):
    data = np.full(20_000_000 + i, i % 251, dtype=np.uint8)
    store.save((), np.arange(1000 * i, 1000 * i + 300, dtype=np.int32), data)
"""


N_BYTES = 20_000_000


@contextmanager
def child(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *args], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def saver(
    folder: Path, *, max_bytes: int = 1 << 30, first: int = 0, last: int = 1000, max_file_bytes: int = 0
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a process that saves prefixes of 20 MB, one after another."""
    return child("-c", SAVER, str(folder), *map(str, (max_bytes, first, last, max_file_bytes)))


def is_whole(store: KVStore, i: int) -> bool:
    """Whether the store has prefix `i` of a saver, and all of it."""
    n, prefix = store.find((), as_tokens(range(1000 * i, 1000 * i + 300)))
    data = None if prefix is None else store.load(prefix)
    return n == 300 and data is not None and data.size == N_BYTES + i and bool(np.all(data == i % 251))


def names(folder: Path, suffix: str) -> list[Path]:
    return list(folder.glob(f"*/*{suffix}"))


def test_engine_killed_in_the_middle_of_a_save_leaves_nothing_wrong(
    tiny: Model, make_engine: EngineFactory, tmp_path: Path
) -> None:
    with child("-m", "tests.engine.survivor", str(tiny.path), str(tmp_path)):
        wait_until(lambda: any(path.stat().st_size > 50_000 for path in names(tmp_path, ".partial")), timeout=60)
    assert len(names(tmp_path, ".partial")) == 1
    assert names(tmp_path, ".kv") == []
    engine = make_engine(kv_type=STEADY_KV, store=KVStore(tmp_path, "model", 1 << 30))
    assert names(tmp_path, ".partial") == []
    outcome = generate(engine, PROMPT, max_tokens=N_TOKENS, ignore_eos=True)
    assert outcome.finish.usage.cached_tokens == 0
    alone = generate(make_engine(kv_type=STEADY_KV), PROMPT, max_tokens=N_TOKENS, ignore_eos=True)
    assert outcome.tokens == alone.tokens
    engine.close()
    again = make_engine(kv_type=STEADY_KV, store=KVStore(tmp_path, "model", 1 << 30))
    outcome = generate(again, PROMPT, max_tokens=N_TOKENS, ignore_eos=True)
    assert outcome.finish.usage.cached_tokens == len(PROMPT) - 1
    assert outcome.tokens == alone.tokens


@pytest.mark.parametrize("seed", range(4))
def test_every_file_of_a_process_killed_at_random_is_whole(tmp_path: Path, seed: int) -> None:
    with saver(tmp_path):
        wait_until(lambda: len(names(tmp_path, ".kv")) > seed, timeout=60)
        time.sleep(random.Random(seed).uniform(0, 0.1))
    n_files = len(names(tmp_path, ".kv"))
    store = KVStore(tmp_path, "model", 1 << 30)
    assert len(store) == n_files > seed
    assert names(tmp_path, ".partial") == []
    assert all(is_whole(store, i) for i in range(n_files))
    assert len(store) == n_files


def test_two_processes_share_a_folder_and_its_budget(tmp_path: Path) -> None:
    budget = 5 * N_BYTES + N_BYTES // 2
    places = [(0, 12), (100, 112)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(saver(tmp_path, max_bytes=budget, first=first, last=last)) for first, last in places
        ]
        for process in processes:
            assert process.wait(60) == 0 and process.stderr is not None and process.stderr.read() == b""
    assert sum(path.stat().st_size for path in names(tmp_path, "")) <= budget + N_BYTES + 4096
    store = KVStore(tmp_path, "model", budget)
    found = [i for first, last in places for i in range(first, last) if is_whole(store, i)]
    assert len(found) == len(store) == len(names(tmp_path, ".kv")) >= 4
    assert any(i in found for i in (11, 111))


def test_a_disk_that_ends_in_the_middle_of_a_file_is_a_notice(tmp_path: Path) -> None:
    """A limit on the size of files, which the system keeps as it keeps that of a disk."""
    with saver(tmp_path, last=2, max_file_bytes=N_BYTES // 2) as process:
        assert process.wait(60) == 0 and process.stderr is not None
        assert process.stderr.read().count(b"was not saved") == 2
    assert names(tmp_path, "") == []
