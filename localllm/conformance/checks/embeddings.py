"""Point 13: embeddings."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from localllm.conformance.check import NotApplicable, check, expect, expect_equal
from localllm.conformance.exchange import Answer, Json
from localllm.conformance.target import Target

_PATH = "/v1/embeddings"
_TEXTS = ["A cat sits on the mat.", "The price of oil rose again.", "Bonjour tout le monde."]
Vector = Sequence[float]


async def _model(target: Target) -> str:
    """Return the model that embeds; without one, the check does not apply."""
    name = target.options.embedding_model
    if name is None:
        cards = (await target.wire.get("/v1/models")).json.get("data") or []
        name = next((c["id"] for c in cards if "embedding" in (c.get("capabilities") or [])), target.model)
    answer = await target.once(f"embeds {name}", lambda: target.wire.post(_PATH, {"model": name, "input": "Hi"}))
    if answer.status != 200:
        raise NotApplicable(
            f"{name} does not embed (HTTP {answer.status}: {answer.error.get('message')}); try --embedding-model"
        )
    return str(name)


async def _post(target: Target, value: Any, **fields: Any) -> Answer:
    return await target.wire.post(_PATH, {"model": await _model(target), "input": value, **fields})


async def _vectors(target: Target, value: Any, **fields: Any) -> list[list[float]]:
    answer = (await _post(target, value, **{"encoding_format": "float", **fields})).ok()
    return [item["embedding"] for item in answer["data"]]


def _cosine(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@check(13)
async def through_the_client(target: Target) -> None:
    """The official client, which asks for base64 unless told otherwise, gets numbers."""
    answer = await target.openai.embeddings.create(model=await _model(target), input=_TEXTS[0])
    vector = answer.data[0].embedding
    expect(isinstance(vector, list) and len(vector) > 8, "a list of numbers", vector)
    [direct] = await _vectors(target, _TEXTS[0])
    expect(len(vector) == len(direct) and _cosine(vector, direct) > 0.9999, "the vector that `float` gives", vector[:4])


@check(13)
async def base64_on_request(target: Target) -> None:
    """encoding_format base64 gives the same vector as 32-bit little-endian floats."""
    text = (await _post(target, _TEXTS[0], encoding_format="base64")).ok()["data"][0]["embedding"]
    expect(isinstance(text, str), "a string", text)
    data = base64.b64decode(text, validate=True)
    vector = struct.unpack(f"<{len(data) // 4}f", data)
    [direct] = await _vectors(target, _TEXTS[0])
    expect(len(vector) == len(direct) and _cosine(vector, direct) > 0.9999, "the vector that `float` gives", vector[:4])


@check(13)
async def floats_without_a_format(target: Target) -> None:
    """Without encoding_format the vector is a list of numbers."""
    item: Json = (await _post(target, _TEXTS[0])).ok()["data"][0]
    expect(isinstance(item["embedding"], list), "a list", type(item["embedding"]).__name__)
    expect_equal("the object", item.get("object"), "embedding")


@check(13)
async def unit_length(target: Target) -> None:
    """Vectors have length 1, as OpenAI's have: programs take the dot product for the cosine."""
    [vector] = await _vectors(target, _TEXTS[0])
    expect(abs(math.hypot(*vector) - 1) < 1e-3, "length 1", math.hypot(*vector))


@check(13)
async def batches(target: Target) -> None:
    """A list of texts gives a vector for each, numbered, each the same as alone."""
    data = (await _post(target, _TEXTS, encoding_format="float")).ok()["data"]
    expect_equal("the indexes", [item["index"] for item in data], [0, 1, 2])
    for item, text in zip(data, _TEXTS, strict=True):
        [alone] = await _vectors(target, text)
        expect(
            _cosine(item["embedding"], alone) > 0.999, "the vector of the text alone", _cosine(item["embedding"], alone)
        )


@check(13)
async def texts_differ(target: Target) -> None:
    """Different texts have different vectors."""
    first, second, _ = await _vectors(target, _TEXTS)
    expect(_cosine(first, second) < 0.999, "a cosine below 0.999", _cosine(first, second))


@check(13)
async def token_arrays(target: Target) -> None:
    """The input may be token ids, or a list of such lists.

    LangChain sends them unless it is told not to.
    """
    [one] = await _vectors(target, [100, 200, 300])
    both = await _vectors(target, [[100, 200, 300], [400, 500]])
    expect_equal("the number of vectors", len(both), 2)
    expect(_cosine(one, both[0]) > 0.999, "the same vector for the same ids", _cosine(one, both[0]))


@check(13)
async def dimensions(target: Target) -> None:
    """`dimensions` gives so many, of length 1, or HTTP 400; never another number in silence."""
    answer = await _post(target, _TEXTS[0], dimensions=8, encoding_format="float")
    if answer.status == 400:
        return
    vector = answer.ok()["data"][0]["embedding"]
    expect_equal("the number of dimensions", len(vector), 8)
    expect(abs(math.hypot(*vector) - 1) < 1e-3, "length 1", math.hypot(*vector))


@check(13)
async def counts_tokens(target: Target) -> None:
    """The usage counts the tokens of all texts."""
    one = (await _post(target, _TEXTS[:1])).ok()["usage"]
    all_three = (await _post(target, _TEXTS)).ok()["usage"]
    expect(0 < one["prompt_tokens"] < all_three["prompt_tokens"], "more tokens for more texts", [one, all_three])
    expect_equal("total_tokens", one["total_tokens"], one["prompt_tokens"])


@check(13)
async def nothing_is_refused(target: Target) -> None:
    """An empty list, and a wrong type, are HTTP 400."""
    wrongs: tuple[Any, ...] = ([], {"text": "Hi"}, None)
    for value in wrongs:
        answer = await _post(target, value)
        expect(answer.status == 400, f"HTTP 400 for {value!r}", f"HTTP {answer.status}: {answer.text}")
