"""/tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scripted_backend import ScriptedBackend
from tests.server.running import Running, serving_scripted


@pytest.fixture
def server() -> Iterator[Running]:
    with serving_scripted({"scripted": ScriptedBackend()}) as running:
        yield running


def test_detokenize_undoes_tokenize(server: Running) -> None:
    tokens = server.post("/tokenize", content="naïve 日本").json()["tokens"]
    assert server.post("/detokenize", tokens=tokens).json() == {"content": "naïve 日本"}


def test_half_a_character_becomes_a_replacement_character(server: Running) -> None:
    assert server.post("/detokenize", tokens=list(b"ok \xe6\x97")).json() == {"content": "ok \N{REPLACEMENT CHARACTER}"}


def test_what_is_no_list_of_ids_is_refused(server: Running) -> None:
    answer = server.post("/detokenize", tokens="hello")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tokens")
