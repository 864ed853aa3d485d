"""Damage is found: by digests where they are known, else by headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.store.inventory import Inventory
from localllm.store.verifying import Check, Verdict, verify
from tests.store.layouts import HubCache, Ollama, sha256, tiny_gguf, write_file


@pytest.fixture(autouse=True)
def only_what_is_made_here(no_demo: None) -> None:
    pass


def verdicts() -> list[Verdict]:
    return list(verify(Inventory(()).models, lambda done, n: None))


def overwrite(path: Path) -> None:
    """Change the last byte: of the weights, which no header knows of."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_blobs_are_compared_with_their_names(hub: HubCache, ollama: Ollama) -> None:
    link = hub.add("org/repo", "x-Q4_0.gguf", tiny_gguf(1))
    ollama.add("m", "1b", tiny_gguf(2))
    assert [(one.is_ok, one.check) for one in verdicts()] == [(True, Check.SHA256)] * 2
    overwrite(link)
    overwrite(ollama.blob(tiny_gguf(2)))
    first, second = verdicts()
    assert first.problem == "x-Q4_0.gguf has another SHA-256 than its own" and not second.is_ok
    assert first.hint is not None and "localllm rm org/repo:Q4_0" in first.hint
    assert second.hint is not None and "ollama pull m:1b" in second.hint


def test_noted_digest_is_compared(own: Path) -> None:
    path = write_file(own / "m.gguf")
    write_file(own / "m.gguf.json", json.dumps({"sha256": sha256(tiny_gguf())}).encode())
    assert [(one.is_ok, one.check) for one in verdicts()] == [(True, Check.SHA256)]
    overwrite(path)
    assert not verdicts()[0].is_ok


def test_header_tells_a_file_that_was_cut_and_not_one_that_was_overwritten(own: Path) -> None:
    path = write_file(own / "m.gguf")
    overwrite(path)
    assert [(one.is_ok, one.check) for one in verdicts()] == [(True, Check.HEADER)]
    path.write_bytes(tiny_gguf()[:-4000])
    (verdict,) = verdicts()
    assert verdict.problem is not None and "is truncated" in verdict.problem


def test_sound_digest_of_no_model_is_damage_too(hub: HubCache) -> None:
    hub.add("org/repo", "x-Q4_0.gguf", b"<html>")
    (verdict,) = verdicts()
    assert verdict.problem is not None and "a web page" in verdict.problem


def test_file_that_vanished_is_a_verdict(own: Path) -> None:
    path = write_file(own / "m.gguf")
    write_file(own / "m.gguf.json", json.dumps({"sha256": "0" * 64}).encode())
    models = Inventory(()).models
    path.unlink()
    (verdict,) = verify(models, lambda done, n: None)
    assert verdict.problem is not None and "No such file" in verdict.problem


def test_shared_blob_is_read_once(hub: HubCache) -> None:
    data = tiny_gguf(1)
    hub.add("org/repo", "a-Q4_0.gguf", data)
    hub.add("org/repo", "b-Q8_0.gguf", data)
    seen: list[tuple[int, int]] = []
    assert all(one.is_ok for one in verify(Inventory(()).models, lambda done, n: seen.append((done, n))))
    assert seen == [(len(data), len(data))]
