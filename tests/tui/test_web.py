"""The interface in a browser: who may open it."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tui.web import GuardedServer

SERVER = GuardedServer("true", "127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("host", "netloc", "is_welcome"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "127.0.0.1:8001", False),
        ("127.0.0.1", "evil.example:8000", False),
        ("127.0.0.1", "192.168.1.5:8000", False),
        ("127.0.0.1", "null", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.1:x", False),
        ("0.0.0.0", "192.168.1.5:8000", True),
        ("0.0.0.0", "evil.example:8000", False),
        ("lab.local", "lab.local:8000", True),
    ],
)
def test_only_names_of_this_machine_are_accepted(host: str, netloc: str, is_welcome: bool) -> None:
    assert GuardedServer("true", host, 8000).accepts(netloc) is is_welcome


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "http://evil.example"}, 403),
        ({"Host": "127.0.0.1:8000", "Origin": "null"}, 403),
        ({"Host": "evil.example:8000"}, 403),
    ],
)
async def test_pages_of_others_are_refused(headers: dict[str, str], status: int) -> None:
    async with TestClient(TestServer(await SERVER._make_app())) as client:
        answer = await client.get("/", headers=headers)
        assert answer.status == status
        if status == 200:
            policy = answer.headers["Content-Security-Policy"]
            assert "googleapis" not in policy and "frame-ancestors 'none'" in policy


async def test_a_page_of_another_origin_gets_no_terminal() -> None:
    async with TestClient(TestServer(await SERVER._make_app())) as client:
        headers = {"Host": "127.0.0.1:8000", "Origin": "http://evil.example", "Upgrade": "websocket"}
        answer = await client.get("/ws", headers=headers)
        assert answer.status == 403
