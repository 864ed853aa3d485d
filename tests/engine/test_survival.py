"""Processes that are killed while they save: what is left is whole or not there, and the next start works."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import as_tokens
from localllm.llama import Model
from tests.engine.driving import EngineFactory, generate, wait_until
from tests.engine.survivor import N_TOKENS, PROMPT
from tests.engine.test_engine import STEADY_KV

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")

SAVER = """
import sys
from pathlib import Path
import numpy as np
from localllm.engine.kv_store import KVStore
store = KVStore(Path(sys.argv[1]), "model", 1 << 30)
for i in range(1000):
    data = np.full(20_000_000 + i, i % 251, dtype=np.uint8)
    store.save((), np.arange(1000 * i, 1000 * i + 300, dtype=np.int32), data)
"""


@contextmanager
def child(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *args])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


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
    with child("-c", SAVER, str(tmp_path)):
        wait_until(lambda: len(names(tmp_path, ".kv")) > seed, timeout=60)
        time.sleep(random.Random(seed).uniform(0, 0.1))
    n_files = len(names(tmp_path, ".kv"))
    store = KVStore(tmp_path, "model", 1 << 30)
    assert len(store) == n_files > seed
    assert names(tmp_path, ".partial") == []
    for i in range(n_files):
        n, prefix = store.find((), as_tokens(range(1000 * i, 1000 * i + 300)))
        assert n == 300 and prefix is not None
        data = store.load(prefix)
        assert data is not None and data.size == 20_000_000 + i and np.all(data == i % 251)
    assert len(store) == n_files
