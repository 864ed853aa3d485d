"""Prefixes on disk: found again, never used when anything is wrong, and within their budget."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.engine import Engine, engine, prefix_cache
from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import as_tokens
from tests.engine.driving import EngineFactory, generate, prompt_of, wait_until
from tests.engine.test_engine import STEADY_KV

TOKENS = as_tokens(range(300))
CELLS = np.arange(5000, dtype=np.uint32).view(np.uint8)


def store_of(folder: Path, identity: str = "model", max_bytes: int = 1 << 30) -> KVStore:
    return KVStore(folder, identity, max_bytes)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_prefix_is_found_and_read_by_the_next_process(tmp_path: Path) -> None:
    assert store_of(tmp_path).save((), TOKENS, CELLS)
    store = store_of(tmp_path)
    n, prefix = store.find((), as_tokens([*range(250), 7, 8, 9]))
    assert n == 250 and prefix is not None
    data = store.load(prefix)
    assert data is not None and np.array_equal(data, CELLS)
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600]


def test_others_prefixes_are_not_seen(tmp_path: Path) -> None:
    store_of(tmp_path).save((("adapter", 1.0),), TOKENS, CELLS)
    assert store_of(tmp_path, "another model").find((("adapter", 1.0),), TOKENS)[1] is None
    for adapters in ((), (("adapter", 0.5),), (("other", 1.0),)):
        assert store_of(tmp_path).find(adapters, TOKENS)[1] is None
    assert store_of(tmp_path).find((("adapter", 1.0),), TOKENS)[0] == 300


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_file_is_deleted_with_a_notice_and_never_used(
    tmp_path_factory: pytest.TempPathFactory, at: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("kv")
    store = store_of(folder)
    store.save((), TOKENS, CELLS)
    (path,) = files(folder)
    raw = bytearray(path.read_bytes())
    raw[int(at * len(raw))] ^= flip
    path.write_bytes(raw)
    for opened in (store, store_of(folder)):
        _, prefix = opened.find((), TOKENS)
        assert prefix is None or opened.load(prefix) is None
    assert files(folder) == []


@pytest.mark.parametrize("n", [0, 3, 40, 300, 1500, 21_000])
def test_a_file_that_was_cut_is_deleted(tmp_path: Path, n: int, caplog: pytest.LogCaptureFixture) -> None:
    store_of(tmp_path).save((), TOKENS, CELLS)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:n])
    store = store_of(tmp_path)
    _, prefix = store.find((), TOKENS)
    assert prefix is None or store.load(prefix) is None
    assert files(tmp_path) == []
    assert "not used and was deleted" in caplog.text


def test_what_a_killed_process_left_half_written_is_not_seen(tmp_path: Path) -> None:
    store_of(tmp_path).save((), TOKENS, CELLS)
    (path,) = files(tmp_path)
    partial = path.with_name("123-0.partial")
    partial.write_bytes(path.read_bytes()[:1000])
    store = store_of(tmp_path)
    assert len(store) == 1
    os.utime(partial, (0, 0))
    store.save((), as_tokens(range(1000, 1400)), CELLS)
    assert not partial.exists()


def test_a_longer_prefix_replaces_those_it_covers(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.save((), TOKENS[:200], CELLS)
    store.save((), TOKENS, CELLS)
    store.save((), TOKENS[:100], CELLS)
    assert len(store) == len(files(tmp_path)) == 1
    assert store.find((), TOKENS)[0] == 300


def test_those_used_longest_ago_make_room(tmp_path: Path) -> None:
    size = CELLS.nbytes
    store = store_of(tmp_path, max_bytes=int(3.5 * size))
    others = store_of(tmp_path, "another model", max_bytes=int(3.5 * size))
    prompts = [as_tokens(range(1000 * i, 1000 * i + 300)) for i in range(4)]
    others.save((), prompts[0], CELLS)
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (age, age))
    store.save((), prompts[1], CELLS)
    store.save((), prompts[2], CELLS)
    store.save((), prompts[3], CELLS)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 3.5 * size
    assert store_of(tmp_path, "another model").find((), prompts[0])[1] is None
    assert store.find((), prompts[3])[0] == 300


def test_more_than_the_budget_is_not_written(tmp_path: Path) -> None:
    assert not store_of(tmp_path, max_bytes=1000).save((), TOKENS, CELLS)
    assert files(tmp_path) == []


def test_a_full_disk_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not store_of(tmp_path).save((), TOKENS, CELLS)
    assert "No space left" in caplog.text
    assert files(tmp_path) == []


# With an engine.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "MIN_STORED", 64)
    monkeypatch.setattr(engine, "SAVE_AFTER_S", 0.01)


def n_cached(engine: Engine, prompt: list[int]) -> tuple[list[int], int]:
    outcome = generate(engine, prompt, max_tokens=12, ignore_eos=True)
    return outcome.tokens, outcome.finish.usage.cached_tokens


@pytest.mark.usefixtures("small")
def test_a_conversation_goes_on_after_a_restart(make_engine: EngineFactory, tmp_path: Path) -> None:
    prompt = prompt_of(80, 400)
    first = make_engine(kv_type=STEADY_KV, store=store_of(tmp_path))
    tokens, _ = n_cached(first, prompt)
    longer = [*prompt, *tokens, *prompt_of(81, 30)]
    first.close()
    alone, n = n_cached(make_engine(kv_type=STEADY_KV), longer)
    assert n == 0
    again, n = n_cached(make_engine(kv_type=STEADY_KV, store=store_of(tmp_path)), longer)
    assert n == len(prompt) + len(tokens) - 1
    assert again == alone


@pytest.mark.usefixtures("small")
def test_what_is_kept_is_on_disk_soon_without_a_close(make_engine: EngineFactory, tmp_path: Path) -> None:
    generate(make_engine(store=store_of(tmp_path)), prompt_of(82, 300), max_tokens=4)
    wait_until(lambda: any(path.suffix == ".kv" for path in files(tmp_path)))
    assert n_cached(make_engine(store=store_of(tmp_path)), prompt_of(82, 300))[1] == 299


@pytest.mark.usefixtures("small")
def test_a_damaged_file_costs_nothing_but_time(
    make_engine: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = prompt_of(83, 300)
    first = make_engine(kv_type=STEADY_KV, store=store_of(tmp_path))
    tokens, _ = n_cached(first, prompt)
    first.close()
    (path,) = files(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        assert n_cached(make_engine(kv_type=STEADY_KV, store=store_of(tmp_path)), prompt) == (tokens, 0)
    assert "its checksum is wrong" in caplog.text


@pytest.mark.usefixtures("small")
def test_cells_of_another_kv_type_are_refused_and_deleted(make_engine: EngineFactory, tmp_path: Path) -> None:
    first = make_engine(kv_type="q8_0", store=store_of(tmp_path))
    generate(first, prompt_of(84, 300), max_tokens=4)
    first.close()
    alone = n_cached(make_engine(), prompt_of(84, 300))
    assert n_cached(make_engine(store=store_of(tmp_path)), prompt_of(84, 300)) == alone
    assert not any(path.suffix == ".kv" for path in files(tmp_path))
