"""How much of a prompt was reused, from where and why not more: on the wire, beside the fields that OpenAI has."""

from __future__ import annotations

from localllm.engine.events import PrefixReuse, Usage
from localllm.server.wire.usage import openai_usage
from tests.server.events import done


def used(reused: int) -> Usage:
    cache = PrefixReuse(reused=reused, prompt=10, source="ram", why="differs", differs_at=reused)
    return Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=reused, cache=cache)


def test_usage_reports_the_completion_that_reused_least() -> None:
    usage = openai_usage([done(usage=used(8)), done(usage=used(4))])
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}
    assert usage["cache"] == {"reused": 4, "prompt": 10, "source": "ram", "why": "differs", "differs_at": 4}


def test_usage_has_no_such_field_where_nothing_is_known() -> None:
    assert "cache" not in openai_usage([done()])
