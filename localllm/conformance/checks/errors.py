"""Point 11: errors have one shape and the right status."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import openai

from localllm.conformance.check import NotApplicable, Unmet, check, expect, expect_equal
from localllm.conformance.exchange import Answer, parse_sse
from localllm.conformance.forcing import FORCED_TOKEN, HELLO
from localllm.conformance.target import CHAT, Target

_N_AT_ONCE = 48
_HUGE_BYTES = 8 << 30


def _expect_error(answer: Answer, status: int) -> None:
    """Raise Unmet unless the answer has this status, and an error of OpenAI's shape."""
    expect(answer.status == status, f"HTTP {status}", f"HTTP {answer.status}: {answer.text}")
    error = answer.json.get("error")
    expect(isinstance(error, dict), 'a body {"error": {…}}', answer.text)
    assert isinstance(error, dict)
    expect(isinstance(error.get("message"), str) and bool(error["message"]), "a message", error)
    expect(isinstance(error.get("type"), str), "a type", error)
    expect("param" in error and "code" in error, "param and code, null where there is none", sorted(error))
    expect(isinstance(error["code"], str | None), "a code that is a name or null", error["code"])


@check(11)
async def unknown_model(target: Target) -> None:
    """A model that there is not is HTTP 404, with the code model_not_found."""
    answer = await target.post_chat(HELLO, model="no-such-model-here")
    _expect_error(answer, 404)
    expect_equal("the code", answer.error["code"], "model_not_found")


@check(11)
async def bad_json(target: Target) -> None:
    """A body that is not JSON is HTTP 400."""
    _expect_error(await target.wire.post(CHAT, b'{"messages": ['), 400)


@check(11)
async def empty_body(target: Target) -> None:
    """An empty body, or one that is no object, is HTTP 400."""
    for body in (b"", b"[]", b"null"):
        _expect_error(await target.wire.post(CHAT, body), 400)


@check(11)
async def missing_messages(target: Target) -> None:
    """A request without messages is HTTP 400, and the message says what is missing."""
    answer = await target.wire.post(CHAT, {"model": target.model})
    _expect_error(answer, 400)
    expect("messages" in answer.error["message"], "the name of what is missing", answer.error["message"])


@check(11)
async def wrong_types(target: Target) -> None:
    """Values of the wrong type are HTTP 400, never 500."""
    for name, value in (("messages", "Hi"), ("temperature", "hot"), ("max_tokens", [1]), ("stop", 7), ("tools", "all")):
        answer = await target.wire.post(CHAT, {**target.body(HELLO), name: value})
        expect(answer.status == 400, f"HTTP 400 for {name} {json.dumps(value)}", f"HTTP {answer.status}: {answer.text}")


@check(11)
async def names_the_parameter(target: Target) -> None:
    """`param` names the field that is wrong."""
    answer = await target.wire.post(CHAT, {**target.body(HELLO), "temperature": "hot"})
    expect_equal("param", answer.error.get("param"), "temperature")


@check(11)
async def unknown_path(target: Target) -> None:
    """A path that there is not is HTTP 404."""
    _expect_error(await target.wire.post("/v1/no/such/path", {}), 404)


@check(11)
async def wrong_method(target: Target) -> None:
    """GET where POST is meant is HTTP 405 or 404, with a body in the same shape."""
    answer = await target.wire.get(CHAT)
    expect(answer.status in (404, 405), "HTTP 405", f"HTTP {answer.status}: {answer.text}")
    _expect_error(answer, answer.status)


@check(11)
async def wrong_key(target: Target) -> None:
    """A wrong key, and none, are HTTP 401, where the server wants one."""
    headers = {"authorization": "Bearer wrong-key"}
    answer = await target.wire.post(CHAT, target.body(HELLO, max_tokens=1), headers)
    if target.options.key is None and answer.status == 200:
        raise NotApplicable("the server wants no key")
    _expect_error(answer, 401)
    _expect_error(await target.wire.post(CHAT, target.body(HELLO), {"authorization": ""}), 401)


@check(11)
async def client_raises_by_status(target: Target) -> None:
    """The official client raises NotFoundError and BadRequestError."""
    wrongs: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
        (openai.NotFoundError, {"model": "no-such-model-here"}),
        (openai.BadRequestError, {"temperature": "hot"}),
    )
    for kind, fields in wrongs:
        try:
            await target.ask(HELLO, **fields)
        except kind:
            continue
        raise Unmet(kind.__name__, "an answer")


@check(11)
async def too_large(target: Target) -> None:
    """A body that is too large is HTTP 413, before it was sent.

    A server that reads on holds all of it in memory.
    """
    status, text = await _announce_huge_body(target)
    expect(status == 413, "HTTP 413", f"HTTP {status}: {text}" if status else text)


@check(11)
async def overload(target: Target) -> None:
    """Many requests at once are answered, or refused with 503 or 429 and Retry-After; none is lost."""
    answers = await asyncio.gather(*(target.post_chat(f"{HELLO} {i}", max_tokens=1) for i in range(_N_AT_ONCE)))
    counts = Counter(answer.status for answer in answers)
    expect(set(counts) <= {200, 429, 503}, "only HTTP 200, 429 and 503", dict(counts))
    for answer in answers:
        if answer.status != 200:
            _expect_error(answer, answer.status)
            expect("retry-after" in answer.headers, "the header Retry-After", dict(answer.headers))


@check(11)
async def errors_within_a_stream(target: Target) -> None:
    """What fails after a stream has begun is an error event in it, and no [DONE] follows.

    A stream that just ends looks like a complete answer.
    """
    if not target.options.disrupt:
        raise NotApplicable("it takes a model that is unloaded while it answers; allow that with --disrupt")
    unload = {"model": target.model, "force": True}
    text = ""
    async with target.wire.open(
        "POST", CHAT, target.body(HELLO, stream=True, max_tokens=4000, **FORCED_TOKEN)
    ) as response:
        async for piece in response.aiter_text():
            text += piece
            if unload and text.count("data:") > 3:
                answer = await target.wire.post("/v1/admin/models/unload", unload)
                if answer.status != 200:
                    raise NotApplicable(f"the server cannot be told to unload a model (HTTP {answer.status})")
                unload = {}
    last = parse_sse(text)[0][-1].data
    expect('"error"' in last and isinstance(json.loads(last).get("error"), dict), "an error event at the end", last)


async def _announce_huge_body(target: Target) -> tuple[int, str]:
    """Announce a body of 8 GiB, send a few bytes of it, and return the status; 0 and why where there is none."""
    where = urlsplit(target.options.root_url)
    if where.scheme != "http":
        raise NotApplicable("the request is made by hand, which TLS does not allow")
    key = f"authorization: Bearer {target.options.key}\r\n" if target.options.key else ""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: {where.netloc}\r\n{key}content-type: application/json\r\n"
    reader, writer = await asyncio.open_connection(where.hostname, where.port or 80)
    try:
        writer.write(f'{head}content-length: {_HUGE_BYTES}\r\n\r\n{{"messages": ['.encode())
        await writer.drain()
        async with asyncio.timeout(target.patience.silence_s):
            line = await reader.readline()
    except (TimeoutError, OSError) as error:
        return 0, f"no answer ({type(error).__name__})"
    finally:
        writer.close()
    words = line.split()
    return (int(words[1]), line.decode("latin-1")) if len(words) > 1 and words[1].isdigit() else (0, "no HTTP answer")
