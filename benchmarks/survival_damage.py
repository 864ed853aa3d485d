"""Files that are damaged or another's: each must be refused, deleted with a notice, and never used."""

from __future__ import annotations

import logging
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from report import PartResult
from survival_process import Process, Settings

from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import Tokens, as_tokens
from localllm.hardware.types import LoadOptions
from localllm.runtime.loading import open_kv_store, plan_model

N_FLIPS = 20
N_CUTS = 20
_STORE_BYTES = 1 << 30
Check = Callable[[dict[str, Any]], bool]


class _Notices(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def judge_damage(
    result: PartResult, settings: Settings, prompt: list[int], rng: random.Random, is_right: Check
) -> None:
    """Damage the one file that a process saved in every way, and judge what becomes of it."""
    (path,) = settings.files(".kv")
    whole = path.read_bytes()
    used = _open(settings)
    tokens = as_tokens(prompt)
    n, prefix = used.find((), tokens)
    result.judge("(e) the whole file is found", "some tokens", n, n > 0 and prefix is not None)
    for name, files in _damaged(whole, rng).items():
        outcomes = [_is_refused(settings, path, tokens, data) for data in files]
        result.judge(f"(e) {name}", f"{len(files)} refused", sum(outcomes), all(outcomes))
    for name, data in _foreign(settings, path, tokens):
        refused = _is_refused(settings, path, tokens, data)
        result.judge(f"(e) {name}", "refused", "refused" if refused else "used", refused)
    _judge_in_a_process(result, settings, path, _flipped(whole, len(whole) - 1000), prompt, is_right)


def _damaged(whole: bytes, rng: random.Random) -> dict[str, list[bytes]]:
    """Return damaged copies of a file, by what was done to them; its head says where its parts begin."""
    (n_head,) = struct.unpack_from("<I", whole, 8)
    n_tokens = int(whole[16 : 16 + n_head].split(b'"n_tokens":')[1].split(b",")[0])
    begin = {"head": (0, 16 + n_head), "tokens": (16 + n_head, 16 + n_head + 4 * n_tokens)}
    parts = begin | {"cells": (begin["tokens"][1], len(whole))}
    flips = {
        f"a bit flipped in the {part}": [_flipped(whole, rng.randrange(*where)) for _ in range(N_FLIPS)]
        for part, where in parts.items()
    }
    cuts = [whole[: rng.randrange(1, len(whole))] for _ in range(N_CUTS)]
    return flips | {"cut": cuts, "empty": [b""], "longer than it was": [whole + b"\0" * 100]}


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]


def _foreign(settings: Settings, path: Path, tokens: Tokens) -> Iterator[tuple[str, bytes]]:
    """Yield files that are whole, but belong to another model, build or KV type."""
    cells = np.zeros(100_000, dtype=np.uint8)
    for name in ("another model's", "another build's"):
        place = settings.home / "foreign"
        KVStore(place, name, _STORE_BYTES).save((), tokens, cells)
        (file,) = place.glob("*/*.kv")
        yield name, file.read_bytes()
        shutil.rmtree(place)
    kept = path.read_bytes() if path.exists() else b""
    settings.clear()
    other = "q8_0" if settings.kv_type != "q8_0" else "f16"
    with Process(settings, kv_type=other) as process:
        process.ask([int(t) for t in tokens[:400]], 4)
    (file,) = settings.files(".kv")
    data = file.read_bytes()
    settings.clear()
    path.parent.mkdir(parents=True)
    path.write_bytes(kept)
    yield f"one of KV type {other}", data


def _is_refused(settings: Settings, path: Path, tokens: Tokens, data: bytes) -> bool:
    """Whether a file with these bytes is deleted with a notice, and its cells not given out."""
    notices, log = _Notices(), logging.getLogger("localllm.engine")
    path.write_bytes(data)
    log.addHandler(notices)
    try:
        store = _open(settings)
        _, prefix = store.find((), tokens)
        given = None if prefix is None else store.load(prefix)
    finally:
        log.removeHandler(notices)
    return given is None and not path.exists() and any("was deleted" in line for line in notices.said)


def _open(settings: Settings) -> KVStore:
    """Open the store as the driver does."""
    options = LoadOptions(
        n_ctx=4096, n_threads=settings.n_threads, kv_type_k=settings.kv_type, kv_type_v=settings.kv_type
    )
    _, plan = plan_model(settings.model, options)
    store = open_kv_store(settings.model, plan, _STORE_BYTES)
    assert store is not None
    return store


def _judge_in_a_process(
    result: PartResult, settings: Settings, path: Path, data: bytes, prompt: list[int], is_right: Check
) -> None:
    """A process that finds a damaged file says so, computes the prompt, and answers as without."""
    path.write_bytes(data)
    with Process(settings) as process:
        found = process.ask(prompt, settings.n_answer)
        said = process.messages
    result.judge("(e) a process that finds one", "computes anew", found["cache"], found["cache"]["reused"] == 0)
    result.judge("(e) ... with a notice", "was deleted", said.strip()[:100], "was deleted" in said)
    result.judge("(e) ... and the right answer", "as without a store", is_right(found), is_right(found))
