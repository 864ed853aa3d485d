"""Ollama's API over HTTP, with scripted models."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from localllm.runtime.backend import FimTokens
from tests.scripted_backend import Script, ScriptedBackend, crash
from tests.server.running import Running, serving_files, serving_scripted
from tests.tiny_model import write_tiny_model

FIM = FimTokens(pre=1, suf=2, mid=3)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend("Hello!", memory_bytes=1000)


@pytest.fixture
def server(backend: ScriptedBackend) -> Iterator[Running]:
    coder = ScriptedBackend("a + b", fim=FIM, chat_template=None)
    with serving_scripted({"small": backend, "coder": coder}) as running:
        yield running


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def loaded(server: Running) -> list[str]:
    return [model["name"] for model in server.http.get("/api/ps").json()["models"]]


def wait_until_unloaded(server: Running, name: str) -> None:
    until = time.monotonic() + 10
    while name in loaded(server):
        assert time.monotonic() < until, "it is still loaded"
        time.sleep(0.02)


def test_a_chat_streams_lines_of_json_unless_told_otherwise(server: Running) -> None:
    answer = server.post("/api/chat", model="small", messages=user("Hi"))
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    found = lines(answer.text)
    assert "".join(line["message"]["content"] for line in found) == "Hello!" and found[-1]["done_reason"] == "stop"
    body = server.post("/api/chat", model="small", messages=user("Hi"), stream=False).json()
    assert body["message"]["content"] == "Hello!" and body["eval_count"] == 6


def test_a_body_needs_no_content_type(server: Running) -> None:
    body = json.dumps({"model": "small", "messages": user("Hi"), "stream": False})
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        answer = server.http.post("/api/chat", content=body, headers={"content-type": kind})
        assert answer.status_code == 200 and answer.json()["message"]["content"] == "Hello!"


@pytest.mark.parametrize("name", ["small", "small:latest", "SMALL", "Small:Latest"])
def test_a_name_resolves_with_and_without_its_tag(server: Running, name: str) -> None:
    answer = server.post("/api/chat", model=name, messages=user("Hi"), stream=False)
    assert answer.status_code == 200 and answer.json()["model"] == name


def test_errors_have_ollamas_shape(server: Running) -> None:
    missing = server.post("/api/chat", model="other", messages=user("Hi"))
    assert missing.status_code == 404 and "'other'" in missing.json()["error"]
    bad = server.http.post("/api/chat", content=b"{")
    assert bad.status_code == 400 and isinstance(bad.json()["error"], str)
    wrong = server.post("/api/chat", model="small", messages=user("Hi"), options={"temperature": "hot"})
    assert wrong.status_code == 400 and "temperature" in wrong.json()["error"]


def test_a_prompt_that_is_too_long_is_an_error_and_never_cut(server: Running) -> None:
    answer = server.post("/api/generate", model="small", prompt="x" * 5000, options={"num_ctx": 100})
    assert answer.status_code == 400 and "4096" in answer.json()["error"]


def test_a_crash_in_a_stream_is_a_line_with_an_error() -> None:
    with serving_scripted({"small": ScriptedBackend(crash("Hel"))}) as server:
        found = lines(server.post("/api/chat", model="small", messages=user("Hi")).text)
    assert "".join(line["message"]["content"] for line in found[:-1]) == "Hel"
    assert "worker process ended" in found[-1]["error"]


def test_generate_uses_the_template_unless_raw(server: Running, backend: ScriptedBackend) -> None:
    server.post("/api/generate", model="small", prompt="Why?", system="Be brief.", stream=False)
    server.post("/api/generate", model="small", prompt="Why?", raw=True, stream=False)
    assert [call.prompt_text for call in backend.calls] == ["<system>Be brief.<user>Why?<assistant>", "Why?"]


def test_generate_goes_on_from_a_context(server: Running, backend: ScriptedBackend) -> None:
    first = server.post("/api/generate", model="small", prompt="One?", stream=False).json()
    second = server.post("/api/generate", model="small", prompt="Two?", stream=False, context=first["context"])
    assert second.status_code == 200
    assert backend.calls[1].prompt_text == "<user>One?<assistant>Hello!<user>Two?<assistant>"
    refused = server.post("/api/generate", model="small", prompt="Two?", context=[1, 2, 3])
    assert refused.status_code == 400 and "context" in refused.json()["error"]


def test_a_suffix_asks_for_what_is_in_between(server: Running) -> None:
    body = server.post("/api/generate", model="coder", prompt="add(", suffix=")", stream=False).json()
    assert body["response"] == "a + b" and "context" not in body
    refused = server.post("/api/generate", model="small", prompt="add(", suffix=")")
    assert refused.status_code == 400 and "fill-in-the-middle" in refused.json()["error"]


def test_options_reach_the_engine(server: Running, backend: ScriptedBackend) -> None:
    options = {"num_predict": 3, "temperature": 0.5, "seed": 7, "stop": ["x"], "num_ctx": 8192}
    body = server.post("/api/chat", model="small", messages=user("Hi"), options=options, stream=False).json()
    assert body["done_reason"] == "length" and body["message"]["content"] == "Hel"
    request = backend.calls[0].request
    assert (request.max_tokens, request.sampling.temperature, request.sampling.seed) == (3, 0.5, 7)
    assert backend.calls[0].controls.stop == ("x",)


def test_without_anything_to_answer_the_model_is_loaded_or_unloaded(server: Running) -> None:
    for path, empty in (
        ("/api/chat", {"message": {"role": "assistant", "content": ""}}),
        ("/api/generate", {"response": ""}),
    ):
        answer = server.post(path, model="small").json()
        assert answer["done_reason"] == "load" and answer["done"] and empty.items() <= answer.items()
        assert loaded(server) == ["small:latest"]
        assert server.post(path, model="small", keep_alive=0).json()["done_reason"] == "unload"
        assert loaded(server) == []


def test_keep_alive_zero_unloads_after_the_answer(server: Running, backend: ScriptedBackend) -> None:
    answer = server.post("/api/chat", model="small", messages=user("Hi"), stream=False, keep_alive="0s")
    assert answer.json()["message"]["content"] == "Hello!"
    wait_until_unloaded(server, "small:latest")
    assert backend.closed


def test_keep_alive_says_when_a_model_goes(server: Running) -> None:
    server.post("/api/generate", model="small", keep_alive="10m")
    [model] = server.http.get("/api/ps").json()["models"]
    left = datetime.fromisoformat(model["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left < timedelta(minutes=11)
    server.post("/api/generate", model="small", keep_alive=-1)
    [model] = server.http.get("/api/ps").json()["models"]
    assert datetime.fromisoformat(model["expires_at"]).year > 2100
    server.post("/api/generate", model="small", keep_alive=0.1)
    wait_until_unloaded(server, "small:latest")


def test_clients_that_may_not_manage_models_do_not(backend: ScriptedBackend) -> None:
    with serving_scripted({"small": backend}, admin=False) as server:
        assert server.post("/api/chat", model="small", messages=user("Hi"), keep_alive=0).status_code == 200
        time.sleep(0.2)
        assert loaded(server) == ["small:latest"]
        assert server.post("/api/chat", model="small", keep_alive=0).status_code == 403


def test_a_stream_whose_client_leaves_is_cancelled() -> None:
    backend = ScriptedBackend(Script("more ", endless=True))
    with serving_scripted({"small": backend}) as server:
        body = {"model": "small", "messages": user("Go on")}
        with server.http.stream("POST", "/api/chat", json=body) as answer:
            next(answer.iter_lines())
        assert backend.calls[0].cancelled.wait(10)


def test_models_are_listed_and_described(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", n_ctx=256, extra={"general.license": "mit"})
    with serving_files({"tiny": path}, n_ctx=128) as server:
        [tag] = server.http.get("/api/tags").json()["models"]
        assert tag["name"] == tag["model"] == "tiny:latest" and tag["size"] == path.stat().st_size
        assert len(tag["digest"]) == 64 and tag["details"]["family"] == "llama"
        shown = server.post("/api/show", model="tiny").json()
        assert shown["model_info"]["general.architecture"] == "llama"
        assert shown["model_info"]["llama.context_length"] == 128 and shown["parameters"] == "num_ctx 128"
        assert "<|im_start|>" in shown["template"] and shown["license"] == "mit"
        assert shown["capabilities"] == ["completion"]
        assert server.post("/api/show", name="tiny:latest").json() == shown
        assert server.post("/api/show", model="other").status_code == 404
        assert loaded(server) == []


def test_a_file_that_is_gone_is_listed_with_what_is_known(server: Running) -> None:
    tags = server.http.get("/api/tags").json()["models"]
    assert [tag["model"] for tag in tags] == ["small:latest", "coder:latest"] and tags[0]["size"] == 0


def test_a_pull_of_a_model_that_is_here_succeeds(server: Running) -> None:
    assert lines(server.post("/api/pull", model="small:latest").text) == [{"status": "success"}]
    assert server.post("/api/pull", model="small", stream=False).json() == {"status": "success"}
    missing = server.post("/api/pull", model="other")
    assert missing.status_code == 501 and "localllm serve" in missing.json()["error"]


@pytest.mark.parametrize(
    ("verb", "method"), [("push", "POST"), ("create", "POST"), ("copy", "POST"), ("delete", "DELETE")]
)
def test_what_would_change_the_models_is_refused_with_what_to_do(server: Running, verb: str, method: str) -> None:
    answer = server.http.request(method, f"/api/{verb}", json={"model": "small"})
    assert answer.status_code == 501 and verb in answer.json()["error"]


def test_the_version_is_one_that_clients_can_compare(server: Running) -> None:
    version = server.http.get("/api/version").json()["version"]
    assert [int(part) for part in version.split(".")] >= [0, 6, 4]


def test_programs_are_told_that_a_server_is_there(server: Running) -> None:
    assert server.http.get("/").text == "Ollama is running"
    assert server.http.head("/").status_code == 200
    assert server.http.get("/", headers={"accept": "text/html,*/*"}).text != "Ollama is running"
