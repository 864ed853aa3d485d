"""Point 15: a first line that changes with every call must not defeat the prefix cache."""

from __future__ import annotations

import secrets

from localllm.conformance.check import check, expect
from localllm.conformance.checks.usage import cached_tokens
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import HELLO, random_words, text_part, user
from localllm.conformance.target import Target

_SHARE = 0.8


def _header() -> str:
    """Return the line that some agents put before their system prompt; its last field changes with every call."""
    version, mark = secrets.token_hex(2), secrets.token_hex(3)
    return f"x-anthropic-billing-header: cc_version=2.1.37.{version}; cc_entrypoint=cli; cch={mark};"


def _expect_mostly(cached: int, prompt_tokens: int) -> None:
    expect(cached >= _SHARE * prompt_tokens, f"most of {prompt_tokens} tokens cached", cached)


@check(15)
async def changing_header_chat(target: Target) -> None:
    """A billing header before the system prompt does not defeat the cache of chat completions."""
    rest = random_words(80)
    for _ in range(2):
        system = {"role": "system", "content": f"{_header()}\n{rest}"}
        usage = (await target.chat([system, user(HELLO)], max_tokens=1))["usage"]
    _expect_mostly(cached_tokens(usage), usage["prompt_tokens"])


@check(15)
async def changing_header_as_a_part(target: Target) -> None:
    """Nor does it where it is a part of its own."""
    rest = random_words(80)
    for _ in range(2):
        system = {"role": "system", "content": [text_part(_header()), text_part(rest)]}
        usage = (await target.chat([system, user(HELLO)], max_tokens=1))["usage"]
    _expect_mostly(cached_tokens(usage), usage["prompt_tokens"])


@check(15)
async def changing_header_messages(target: Target) -> None:
    """Nor does it in Anthropic's API, where it is the first block of the system prompt."""
    body: Json = {"model": target.model, "max_tokens": 1, "messages": [user(HELLO)]}
    await target.need_path("/v1/messages", body)
    rest = random_words(80)
    for _ in range(2):
        system = [text_part(_header()), text_part(rest)]
        usage = (await target.wire.post("/v1/messages", {**body, "system": system})).ok()["usage"]
    cached = usage.get("cache_read_input_tokens") or 0
    _expect_mostly(cached, cached + usage["input_tokens"] + (usage.get("cache_creation_input_tokens") or 0))


@check(15)
async def rest_of_the_prompt_is_read(target: Target) -> None:
    """The rest of such a system prompt is still read, all of it."""
    rest = random_words(30)
    system = {"role": "system", "content": f"{_header()}\n{rest}"}
    plain = await target.n_prompt_tokens([{"role": "system", "content": rest}, user(HELLO)])
    with_header = await target.n_prompt_tokens([system, user(HELLO)])
    expect(with_header >= plain - 2, f"at least {plain} tokens", with_header)


@check(15)
async def ordinary_first_lines_are_read(target: Target) -> None:
    """An ordinary first line is part of the prompt, whatever it looks like."""
    plain = await target.n_prompt_tokens([{"role": "system", "content": "Be brief."}, user(HELLO)])
    text = "Session: the user is an expert in early French poetry; answer at that level.\nBe brief."
    longer = await target.n_prompt_tokens([{"role": "system", "content": text}, user(HELLO)])
    expect(longer >= plain + 10, "the first line to be part of the prompt", f"{plain} and {longer} tokens")
