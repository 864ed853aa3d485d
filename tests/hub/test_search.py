"""Searching a hub on loopback."""

from __future__ import annotations

import pytest

from localllm.errors import HubError, HubRateLimited, HubUnavailable
from localllm.hub.client import HubClient
from tests.hub.conftest import noise
from tests.hub.local_hub import Fault, LocalHub


@pytest.fixture
def client(hub: LocalHub) -> HubClient:
    hub.add("a/small-GGUF", {"s-Q4_0.gguf": noise(9), "s-Q8_0.gguf": noise(9)}, n_downloads=5, n_likes=9)
    hub.add("b/small-big-GGUF", {"b.gguf": noise(9)}, n_downloads=7, n_params=7_000_000_000, is_gated=True)
    hub.add("c/other", {"o.gguf": noise(9)})
    return HubClient(hub.endpoint)


def test_what_is_found_is_in_order_and_says_what_there_is(client: HubClient) -> None:
    first, second = client.search("small")
    assert (first.repo, first.n_downloads, first.n_params, first.is_gated) == (
        "b/small-big-GGUF",
        7,
        7_000_000_000,
        True,
    )
    assert second.quantizations == ("Q4_0", "Q8_0")
    assert second.updated is not None and second.updated.year == 2026


def test_order_and_limit_reach_the_hub(client: HubClient, hub: LocalHub) -> None:
    assert [found.repo for found in client.search("small", order="likes", limit=1)] == ["a/small-GGUF"]
    assert client.search("nothing") == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=429), HubRateLimited),
        (Fault(status=502), HubUnavailable),
        (Fault(status=200, headers={"Content-Type": "text/html"}), HubError),
    ],
)
def test_failures_are_ours(client: HubClient, hub: LocalHub, fault: Fault, kind: type[Exception]) -> None:
    hub.fail("/api/models", fault)
    with pytest.raises(kind):
        client.search("small")


def test_a_silent_hub_is_not_waited_for_without_end(
    client: HubClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.fail("/api/models", Fault(wait_s=2))
    with pytest.raises(HubUnavailable, match="no answer in time"):
        client.search("small")


def test_strange_fields_are_an_error_not_a_crash(client: HubClient, hub: LocalHub) -> None:
    hub.repos["a/small-GGUF"].n_likes = "many"  # type: ignore[assignment]
    with pytest.raises(HubError, match="not one of the hub's API"):
        client.search("small")
