"""The context policy over HTTP: asked for in every API, refused with a reason, and what it cost in every answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from localllm.llm import LLM
from localllm.server.app import create_app
from localllm.server.manager import ModelEntry, ModelManager
from localllm.server.settings import ServerSettings
from tests.scripted_backend import Script, ScriptedBackend
from tests.server.app_client import client_of

TALK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi."}], "stream": False, "max_tokens": 5}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": TALK,
    "/v1/completions": {"prompt": "Hi."},
    "/completion": {"prompt": "Hi."},
    "/v1/responses": {"input": "Hi."},
    "/v1/messages": TALK,
}


@pytest.mark.parametrize("path", BODIES)
def test_request_says_its_policy(path: str) -> None:
    backend = ScriptedBackend("Hello.")
    manager = ModelManager([ModelEntry(name="small", path=Path("small.gguf"))], lambda *_: LLM(backend))
    with TestClient(create_app(ServerSettings(), manager), base_url="http://127.0.0.1:8080") as client:
        answer = client.post(path, json=BODIES[path] | {"context_policy": "sinks", "n_sink": 6})
    assert answer.status_code == 200
    assert [(c.request.context_policy, c.request.n_sink) for c in backend.calls] == [("sinks", 6)]


def test_native_n_keep_is_the_head() -> None:
    backend = ScriptedBackend("Hello.")
    manager = ModelManager([ModelEntry(name="small", path=Path("small.gguf"))], lambda *_: LLM(backend))
    with TestClient(create_app(ServerSettings(), manager), base_url="http://127.0.0.1:8080") as client:
        client.post("/completion", json={"prompt": "Hi.", "context_policy": "shift", "n_keep": 2})
    assert (backend.calls[0].request.context_policy, backend.calls[0].request.n_keep) == ("shift", 2)


@pytest.mark.parametrize("path", BODIES)
def test_policy_that_there_is_not_is_a_400_with_the_choices(path: str) -> None:
    with client_of() as client:
        answer = client.post(path, json=BODIES[path] | {"context_policy": "slide"})
    assert answer.status_code == 400
    assert "error, shift, sinks" in answer.text


@pytest.mark.parametrize("path", set(BODIES) - {"/completion"})
@pytest.mark.parametrize("n_evicted", [0, 123])
def test_usage_says_how_many_tokens_left_where_any_did(path: str, n_evicted: int) -> None:
    with client_of(says=Script("Hello.", n_evicted=n_evicted)) as client:
        usage = client.post(path, json=BODIES[path]).json()["usage"]
    assert usage.get("evicted_tokens", 0) == n_evicted
    assert ("evicted_tokens" in usage) == (n_evicted > 0)


def test_usage_of_several_completions_counts_all_that_left() -> None:
    with client_of(says=Script("Hello.", n_evicted=10)) as client:
        usage = client.post("/v1/completions", json={"prompt": ["Hi.", "Ho."], "n": 2}).json()["usage"]
    assert usage["evicted_tokens"] == 40


def test_native_answer_is_truncated_where_tokens_left() -> None:
    with client_of(says=Script("Hello.", n_evicted=3)) as client:
        answer = client.post("/completion", json={"prompt": "Hi."}).json()
    assert (answer["truncated"], answer["tokens_evicted"]) == (True, 3)
    assert answer["tokens_cached"] == answer["tokens_evaluated"] + answer["tokens_predicted"] - 3
