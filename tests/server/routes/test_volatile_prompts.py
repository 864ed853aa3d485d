"""Every chat API leaves out what would make each prompt of an agent a new one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from localllm.llm import Progress, TextDelta
from tests.server.official import Scripted, done, scripted

__all__ = ["scripted"]

RULES = "x-anthropic-billing-header: cc_version=2.1.77; cch=36ee5;\nBe brief."
HI = {"role": "user", "content": "Hi."}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "system", "content": RULES}, HI]},
    "/v1/messages": {"max_tokens": 9, "system": RULES, "messages": [HI]},
    "/v1/responses": {"instructions": RULES, "input": "Hi."},
    "/api/chat": {"messages": [{"role": "system", "content": RULES}, HI]},
}


@pytest.mark.parametrize("path", BODIES)
def test_header_line_does_not_reach_the_model(scripted: Scripted, path: str) -> None:
    scripted.llm.script = [Progress(12, 12, 4), TextDelta("Hi!"), done("Hi!")]
    assert httpx.post(f"{scripted.url}{path}", json=BODIES[path]).status_code == 200
    system = scripted.llm.asked[0].messages[0]
    assert system["role"] == "system"
    assert "Be brief." in str(system["content"])
    assert "x-anthropic" not in str(system["content"])
