"""GET /v1/admin/status: what `localllm ps` is told."""

from __future__ import annotations

from typing import Any

from localllm.server.settings import ServerSettings, key_digest
from tests.server.app_client import client_of

PATH = "/v1/admin/status"


def test_models_that_are_not_loaded_have_nothing_running() -> None:
    with client_of(names=("small", "large")) as client:
        status: dict[str, Any] = client.get(PATH).json()
    assert [model["id"] for model in status["models"]] == ["small", "large"]
    first = status["models"][0]
    assert (first["state"], first["running"], first["memory_bytes"], first["idle_s"]) == ("unloaded", 0, None, None)


def test_loaded_model_shows_what_it_takes_and_how_long_it_was_idle() -> None:
    with client_of() as client:
        client.post("/v1/admin/models/load", json={"model": "small"})
        client.post("/v1/admin/models/pin", json={"model": "small"})
        model = client.get(PATH).json()["models"][0]
        info = client.get("/v1/models/small").json()
    assert (model["state"], model["pinned"]) == ("loaded", True)
    assert model["context_length"] == info["context_length"] > 0
    assert model["slots"] == info["meta"]["n_slots"] > 0
    assert 0 <= model["idle_s"] < 60


def test_status_is_readable_where_models_may_not_be_managed() -> None:
    with client_of(ServerSettings(admin=False)) as client:
        assert client.get(PATH).status_code == 200
        assert client.post("/v1/admin/models/load", json={"model": "small"}).status_code == 403


def test_status_needs_the_key() -> None:
    with client_of(ServerSettings(key_digests=(key_digest("secret"),))) as client:
        assert client.get(PATH).status_code == 401
        assert client.get(PATH, headers={"authorization": "Bearer secret"}).status_code == 200
