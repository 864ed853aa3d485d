"""The OpenAPI document: complete enough to be read, and its examples true."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from localllm.server.openapi import EXAMPLES
from localllm.server.settings import ServerSettings, key_digest
from tests.server.app_client import client_of


def document(settings: ServerSettings | None = None) -> dict[str, Any]:
    with client_of(settings) as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_call_has_a_described_tag_and_a_line_of_its_own() -> None:
    found = document()
    described = {tag["name"] for tag in found["tags"] if tag["description"]}
    for path, item in found["paths"].items():
        for method, operation in item.items():
            assert set(operation["tags"]) <= described, (method, path)
            assert operation["description"], (method, path)


@pytest.mark.parametrize(("method", "path"), EXAMPLES)
def test_example_is_a_request_that_works(method: str, path: str) -> None:
    example = EXAMPLES[method, path]
    with client_of() as client:
        response = client.request(method, path, json=example.request)
        assert response.status_code == 200, response.text
        assert set(example.answer) <= set(response.json())
    found = document()
    if example.request is not None:
        body = found["paths"][path][method]["requestBody"]["content"]["application/json"]
        assert body["example"] == example.request
        jsonschema.validate(example.request, {**found, **body["schema"]})


def test_key_is_described_where_one_is_needed() -> None:
    assert "security" not in document()
    found = document(ServerSettings(key_digests=(key_digest("secret"),)))
    assert found["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_reference_needs_no_other_server() -> None:
    with client_of() as client:
        page = client.get("/docs").text
        assert client.get("/redoc").status_code == 404
    assert "http" not in page.replace("http-equiv", "")


def test_every_field_of_a_conversation_is_explained() -> None:
    schema = document()["components"]["schemas"]["ChatCompletionRequest"]
    plain = {name for name, field in schema["properties"].items() if "description" not in field}
    assert plain <= {"stream_options", "add_generation_prompt", "continue_final_message"}
