"""The OpenAPI document against the server: whatever is sent, the answer is one that the document names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from localllm.server import app as app_module
from localllm.server.app import create_app
from localllm.server.routes.router import StrictRoute
from localllm.server.settings import ServerSettings
from tests.scripted_backend import crash
from tests.server.fakes import Loader, make_manager
from tests.server.live import LiveServer, ServeProcess, metric, wait_for
from tests.tiny_model import write_tiny_model

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)


def no_failure(ctx: Any, response: Any, case: Any) -> None:
    """No 5xx; but what Ollama does and this server does not is 501, and says so."""
    if response.status_code != 501:
        not_a_server_error(ctx, response, case)


CHECKS = [
    no_failure,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


def document() -> dict[str, Any]:
    app: Any = create_app(ServerSettings(), make_manager(Loader()))
    while not hasattr(app, "openapi"):
        app = app._app
    found: dict[str, Any] = app.openapi()
    return found


OPERATIONS = {
    operation.label: operation
    for operation in (result.ok() for result in schemathesis.openapi.from_dict(document()).get_all_operations())
}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    """Models that say a few words, whatever they are asked."""
    with LiveServer(make_manager(Loader(scripts=("Hello!",)), "a", "b")) as server:
        yield server


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """A random model in a worker process, whose context is soon full."""
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", n_ctx=512)
    with ServeProcess(path, "--n-ctx", 256, "--threads", 1) as server:
        yield server


def check(server: LiveServer | ServeProcess, label: str, n_examples: int, **options: Any) -> None:
    """Send requests that fit the document, and others that do not."""
    for mode in schemathesis.GenerationMode:
        if mode.is_negative and not OPERATIONS[label].body:
            continue

        @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), **options)
        @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=60)

        run()


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_those_that_the_document_names(server: LiveServer, label: str) -> None:
    check(server, label, 15, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_to_many_requests_are_those_that_the_document_names(server: LiveServer, label: str) -> None:
    check(server, label, 500)


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_nothing_that_is_sent_ends_a_real_worker(real_server: ServeProcess, label: str) -> None:
    check(real_server, label, 100)
    with real_server.client() as client:
        assert metric(client, "model_crashes_total") == 0
        assert client.get("/health").status_code == 200
        wait_for(lambda: metric(client, "requests_admitted") == 0)


def test_document_names_what_a_failing_model_answers() -> None:
    loader = Loader(scripts=(crash("Half"),))
    with LiveServer(make_manager(loader)) as server, server.client() as client:
        described = client.get("/openapi.json").json()
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        status = client.post("/v1/chat/completions", json=body).status_code
    assert status == 500
    assert "500" in described["paths"]["/v1/chat/completions"]["post"]["responses"]


def test_every_route_reads_its_body_strictly_and_names_its_errors() -> None:
    for router in app_module._ROUTERS:
        assert [
            route.path
            for route in router.routes
            if getattr(route, "body_field", None) and not isinstance(route, StrictRoute)
        ] == []
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "403", "413", "500"} <= set(operation["responses"]), f"{method} {path}"
            assert "422" not in operation["responses"], f"{method} {path} says 422; it answers 400"
