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
from tests.server.live import LiveServer

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

CHECKS = [
    not_a_server_error,
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


def check(server: LiveServer, label: str, n_examples: int, **options: Any) -> None:
    """Send requests that fit the document, and others that do not."""
    for mode in schemathesis.GenerationMode:
        if mode.is_negative and not OPERATIONS[label].body:
            continue

        @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), **options)
        @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=20)

        run()


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_those_that_the_document_names(server: LiveServer, label: str) -> None:
    check(server, label, 15, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_to_many_requests_are_those_that_the_document_names(server: LiveServer, label: str) -> None:
    check(server, label, 500)


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
        assert [route.path for route in router.routes if route.body_field and not isinstance(route, StrictRoute)] == []
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "403", "413", "500"} <= set(operation["responses"]), f"{method} {path}"
            assert "422" not in operation["responses"], f"{method} {path} says 422; it answers 400"
