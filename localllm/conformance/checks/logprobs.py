"""Point 6: log probabilities of tokens."""

from __future__ import annotations

import json
from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COUNT, EMOJI, HELLO, only
from localllm.conformance.target import Target

_N = 8


async def _tokens(target: Target, **fields: Any) -> list[Json]:
    """Return choices[0].logprobs.content."""
    choice = (await target.chat(COUNT, **{"max_tokens": _N, **fields}))["choices"][0]
    found = (choice.get("logprobs") or {}).get("content")
    expect(isinstance(found, list) and bool(found), "logprobs.content, a list", choice.get("logprobs"))
    return list(found or [])


@check(6)
async def without_top_logprobs(target: Target) -> None:
    """`logprobs: true` works without top_logprobs: an entry for each token, top_logprobs []."""
    tokens = await _tokens(target, logprobs=True)
    expect_equal("the number of entries", len(tokens), _N)
    expect(all(token.get("top_logprobs") == [] for token in tokens), "top_logprobs []", tokens[0])


@check(6)
async def values_are_log_probabilities(target: Target) -> None:
    """Each entry has a token and a natural logarithm of a probability."""
    tokens = await _tokens(target, logprobs=True)
    expect(all(isinstance(t.get("token"), str) for t in tokens), "a token in each entry", tokens[0])
    values = [token.get("logprob") for token in tokens]
    expect(all(isinstance(v, int | float) and v <= 1e-4 for v in values), "numbers up to 0", values)
    expect(any(v != values[0] for v in values), "values of their own", values)


@check(6)
async def bytes_are_the_text(target: Target) -> None:
    """`bytes` are there, and together they are the text, also where a token is half a character."""
    await target.need_schemas()
    choice = (await target.chat(HELLO, logprobs=True, max_tokens=120, **only(EMOJI)))["choices"][0]
    pieces = [token.get("bytes") for token in choice["logprobs"]["content"]]
    expect(all(isinstance(piece, list) for piece in pieces), "bytes in each entry", pieces[:3])
    text = bytes(byte for piece in pieces for byte in piece).decode("utf-8", "replace")
    expect_equal("the text of the bytes", text.strip(), choice["message"]["content"].strip())


@check(6)
async def top_logprobs(target: Target) -> None:
    """top_logprobs gives so many candidates, the likeliest first, with bytes; greedy choices come first."""
    tokens = await _tokens(target, logprobs=True, top_logprobs=5)
    for token in tokens:
        top = token["top_logprobs"]
        expect_equal("the number of candidates", len(top), 5)
        values = [candidate["logprob"] for candidate in top]
        expect(values == sorted(values, reverse=True), "the likeliest first", values)
        expect(all(isinstance(c.get("bytes"), list) for c in top), "bytes in each candidate", top[0])
        expect_equal("the first candidate", top[0]["token"], token["token"])


@check(6)
async def top_logprobs_0(target: Target) -> None:
    """top_logprobs 0 is allowed, and gives none."""
    tokens = await _tokens(target, logprobs=True, top_logprobs=0)
    expect(all(token["top_logprobs"] == [] for token in tokens), "top_logprobs []", tokens[0])


@check(6)
async def top_logprobs_20(target: Target) -> None:
    """top_logprobs 20 is allowed, and gives 20."""
    tokens = await _tokens(target, logprobs=True, top_logprobs=20, max_tokens=2)
    expect_equal("the number of candidates", len(tokens[0]["top_logprobs"]), 20)


@check(6)
async def top_logprobs_21_is_refused(target: Target) -> None:
    """top_logprobs 21 is HTTP 400."""
    answer = await target.post_chat(COUNT, logprobs=True, top_logprobs=21, max_tokens=1)
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")


@check(6)
async def streamed(target: Target) -> None:
    """A stream carries them beside the text, the same as the whole answer."""
    choices = (await target.stream(COUNT, logprobs=True, top_logprobs=2, max_tokens=_N)).choices()
    tokens = [t for c in choices for t in (c.get("logprobs") or {}).get("content") or []]
    expect_equal("the number of entries", len(tokens), _N)
    for choice in choices:
        if (choice.get("delta") or {}).get("content"):
            expect(bool((choice.get("logprobs") or {}).get("content")), "entries beside each text", choice)
    whole = await _tokens(target, logprobs=True, top_logprobs=2)
    expect_equal("the tokens", [t["token"] for t in tokens], [t["token"] for t in whole])


@check(6)
async def only_if_asked(target: Target) -> None:
    """Without logprobs there are none."""
    for fields in ({}, {"logprobs": False}, {"logprobs": None, "top_logprobs": None}):
        choice = (await target.chat(COUNT, max_tokens=2, **fields))["choices"][0]
        expect(choice.get("logprobs") is None, f"null with {json.dumps(fields)}", choice.get("logprobs"))


@check(6)
async def client_reads_them(target: Target) -> None:
    """The official client reads them."""
    answer = await target.ask(COUNT, logprobs=True, top_logprobs=3, max_tokens=2)
    tokens = answer.choices[0].logprobs.content
    expect_equal("the number of candidates", [len(token.top_logprobs) for token in tokens], [3, 3])


@check(6)
async def completions_have_the_older_form(target: Target) -> None:
    """/v1/completions has the older form: parallel lists of tokens, values, candidates and offsets."""
    body = {"model": target.model, "prompt": "One, two, three,", "max_tokens": 4, "logprobs": 2, "temperature": 0}
    await target.need_path("/v1/completions", body)
    found = (await target.wire.post("/v1/completions", body)).ok()["choices"][0].get("logprobs") or {}
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        expect(isinstance(found.get(name), list) and len(found[name]) == 4, f"4 {name}", found)
