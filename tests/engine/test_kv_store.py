"""Prefixes on disk: found again, never used when anything is wrong, and within their budget."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.engine import Engine, disk_tier, engine
from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import as_tokens
from localllm.partial_files import claim
from tests.engine.driving import STEADY_KV, EngineFactory, generate, prompt_of, wait_until

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
    assert len(store_of(tmp_path)) == 1
    assert not partial.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open")
def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    store_of(tmp_path).save((), TOKENS, CELLS)
    partial = files(tmp_path)[0].with_name("123-0.partial")
    with partial.open("wb") as file:
        claim(file)
        store_of(tmp_path).save((), as_tokens(range(1000, 1400)), CELLS)
        assert partial.exists()
    store_of(tmp_path)
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


def test_the_budget_counts_whole_files(tmp_path: Path) -> None:
    tokens = as_tokens(range(100_000))
    assert not store_of(tmp_path, max_bytes=CELLS.nbytes + 1000).save((), tokens, CELLS)
    assert store_of(tmp_path, max_bytes=CELLS.nbytes + tokens.nbytes + 1000).save((), tokens, CELLS)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= CELLS.nbytes + tokens.nbytes + 1000


def test_a_file_from_the_future_goes_first(tmp_path: Path) -> None:
    """Some clock was wrong; believed, it would stay until that time comes."""
    store = store_of(tmp_path, max_bytes=int(2.5 * CELLS.nbytes))
    prompts = [as_tokens(range(1000 * i, 1000 * i + 300)) for i in range(3)]
    for prompt in prompts[:2]:
        store.save((), prompt, CELLS)
    _, wrong = store.find((), prompts[1])
    assert wrong is not None
    os.utime(wrong.path, (4e9, 4e9))
    store.save((), prompts[2], CELLS)
    assert [store.find((), prompt)[0] for prompt in prompts] == [300, 0, 300]


def test_a_file_under_the_name_of_another_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(tmp_path)
    store.save((), TOKENS, CELLS)
    store.save((), TOKENS[::-1].copy(), CELLS)
    _, prefix = store.find((), TOKENS)
    _, other = store.find((), TOKENS[::-1].copy())
    assert prefix is not None and other is not None
    prefix.path.write_bytes(other.path.read_bytes())
    assert store.load(prefix) is None
    assert "it belongs to another prompt" in caplog.text
    assert not prefix.path.exists()


def test_what_another_process_deleted_is_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_of(tmp_path)
    store.save((), TOKENS, CELLS)
    store_of(tmp_path).clear()
    _, prefix = store.find((), TOKENS)
    assert prefix is not None and store.load(prefix) is None
    assert len(store) == 0 and caplog.text == ""
    assert store.save((), TOKENS, CELLS)


def test_a_file_that_cannot_be_read_now_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, say: nothing is wrong with the file."""
    store = store_of(tmp_path)
    store.save((), TOKENS, CELLS)
    _, prefix = store.find((), TOKENS)
    assert prefix is not None

    def fail(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        assert store.load(prefix) is None
        assert len(store_of(tmp_path)) == 0
    assert store_of(tmp_path).find((), TOKENS)[0] == 300


def test_a_folder_in_which_nothing_can_be_deleted_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(tmp_path)
    store.save((), TOKENS, CELLS)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    _, prefix = store.find((), TOKENS)
    assert prefix is not None and store.load(prefix) is None and len(store) == 0
    assert "cannot be deleted" in caplog.text
    path.write_bytes(b"")
    assert len(store_of(tmp_path)) == 0
    store.clear()


@pytest.mark.parametrize("name", ["kv", ""])
def test_a_file_in_the_place_of_the_folder_is_a_notice(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "kv"
    if name:
        place.write_text("not a folder")
    else:
        store_of(place).save((), TOKENS, CELLS)
        folder = files(place)[0].parent
        files(place)[0].unlink()
        folder.rmdir()
        folder.write_text("not a folder")
    store = store_of(place)
    assert len(store) == 0
    assert not store.save((), TOKENS, CELLS)
    assert "was not saved" in caplog.text


def test_two_processes_that_save_the_same_leave_one_whole_file(tmp_path: Path) -> None:
    stores = [store_of(tmp_path) for _ in range(2)]
    assert all(store.save((), TOKENS, CELLS) for store in stores)
    assert len(files(tmp_path)) == 1
    for store in stores:
        _, prefix = store.find((), TOKENS)
        assert prefix is not None and store.load(prefix) is not None


def test_what_serves_only_in_whole_is_found_only_in_whole(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    for n in (100, 200, 300):
        store.save((), TOKENS[:n], CELLS, in_whole=True)
    assert len(store) == len(files(tmp_path)) == 3
    for opened in (store, store_of(tmp_path)):
        assert opened.find((), TOKENS[:250], in_whole=True)[0] == 200
        assert opened.find((), TOKENS[:99], in_whole=True) == (0, None)
        assert opened.find((), TOKENS[:250])[0] == 250


def test_of_a_long_chain_the_last_remain_and_where_another_branches_off(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    other = as_tokens([*range(100), *range(5000, 5100)])
    for n in range(50, 301, 50):
        store.save((), TOKENS[:n], CELLS, in_whole=True)
        if n == 100:
            store.save((), other, CELLS, in_whole=True)
    kept = [n for n in range(50, 301, 50) if store.find((), TOKENS[:n], in_whole=True)[0] == n]
    assert kept == [50, 100, 150, 200, 250, 300]
    for n in (310, 320):
        store.save((), as_tokens(range(n)), CELLS, in_whole=True)
    assert store.find((), other, in_whole=True)[0] == 200
    kept = [
        n
        for n in (50, 100, 150, 200, 250, 300, 310, 320)
        if (store.find((), as_tokens(range(n)), in_whole=True)[0] == n)
    ]
    assert kept == [50, 100, 250, 300, 310, 320]


# With an engine.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_tier, "MIN_STORED", 64)
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
