"""What Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from localllm.engine import PrefixReuse, Usage
from localllm.errors import WorkerCrashed
from localllm.server.admission import Admission
from localllm.server.metrics import Metrics
from tests.scripted_backend import crash
from tests.server.events import done
from tests.server.fakes import FakeBackend, Loader, make_manager
from tests.server.live import LiveServer, chat_body, metric


def test_page_parses_and_counts_requests_and_tokens() -> None:
    with LiveServer() as server, server.client() as client:
        for fields in ({}, {"stream": True}, {"max_tokens": 2}):
            assert client.post("/v1/chat/completions", json=chat_body(**fields)).status_code == 200
        assert client.post("/v1/chat/completions", json=chat_body(model="nobody")).status_code == 404
        response = client.get("/metrics")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    outcomes = {s.labels["outcome"]: s.value for s in families["localllm_requests"].samples if s.name.endswith("total")}
    assert outcomes == {"stop": 2.0, "length": 1.0, "model_not_found": 1.0}
    (completion,) = [s for s in families["localllm_completion_tokens"].samples if s.name.endswith("total")]
    assert completion.value == 2 * len("Hello!") + 2
    assert families["localllm_kv_cells"].samples[0].value == 4096
    assert families["localllm_model_loads"].samples[0].value == 1


def test_reused_tokens_are_counted_by_where_they_were_kept() -> None:
    with LiveServer() as server:
        metrics = Metrics(server.manager, Admission(max_requests=1))
        for reused, source, why in ((900, "disk", "new"), (50, "ram", "differs"), (0, "none", "nothing_kept")):
            cache = PrefixReuse(reused=reused, prompt=1000, source=source, why=why)  # type: ignore[arg-type]
            usage = Usage(prompt_tokens=1000, completion_tokens=1, cached_tokens=reused, cache=cache)
            metrics.observe("demo", done(usage=usage))
        text = metrics.render().decode()
    assert 'localllm_prompt_tokens_reused_total{model="demo",source="disk"} 900.0' in text
    assert 'localllm_prompt_tokens_reused_total{model="demo",source="ram"} 50.0' in text
    assert 'source="none"' not in text
    assert 'localllm_prefix_reuse_total{model="demo",why="nothing_kept"} 1.0' in text


def test_page_works_before_any_model_is_loaded() -> None:
    with LiveServer() as server, server.client() as client:
        assert client.get("/metrics").status_code == 200
        assert metric(client, "kv_cells") == 0
        assert server.loader.loads == []


def test_labels_do_not_grow_with_what_clients_make_up() -> None:
    with LiveServer() as server, server.client() as client:
        for index in range(20):
            client.post("/v1/chat/completions", json=chat_body(model=f"made-up-{index}"))
            client.get(f"/made-up-{index}")
        assert "made-up" not in client.get("/metrics").text


def test_model_that_dies_while_it_is_asked_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: FakeBackend) -> None:
        raise WorkerCrashed("The worker process ended.")

    monkeypatch.setattr(FakeBackend, "stats", die)
    with LiveServer() as server, server.client() as client:
        client.post("/v1/chat/completions", json=chat_body())
        response = client.get("/metrics")
        assert response.status_code == 200
        assert "localllm_kv_cells{" not in response.text


def test_crashes_and_evictions_are_counted() -> None:
    loader = Loader({"a": 60, "b": 60}, scripts=("Hi", crash(), "Hi"))
    with LiveServer(make_manager(loader, "a", "b", max_bytes=100)) as server, server.client() as client:
        client.post("/v1/chat/completions", json=chat_body(model="a"))
        client.post("/v1/chat/completions", json=chat_body(model="b"))
        loader.backends["b"].crashed = True
        client.post("/v1/chat/completions", json=chat_body(model="b"))
        assert metric(client, "model_evictions_total") == 1
        assert metric(client, "model_crashes_total") == 1
        assert metric(client, "model_loads_total") == 3
