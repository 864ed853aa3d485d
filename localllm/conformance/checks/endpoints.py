"""Which endpoints there are, beside those that have points of their own."""

from __future__ import annotations

import re
from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.forcing import EMOJI, HELLO, user
from localllm.conformance.target import Target


async def _expect_there(target: Target, path: str, body: Any) -> None:
    """Raise Unmet where the server says that it has no such path, or does not implement it."""
    answer = await target.wire.post(path, body)
    expect(answer.status not in (404, 405, 501), f"something at {path}", f"HTTP {answer.status}: {answer.text}")


@check(18)
async def models(target: Target) -> None:
    """/v1/models lists the models as OpenAI does."""
    page = await target.openai.models.list()
    expect(any(model.id == target.model for model in page.data), f"{target.model} in the list", page.data)
    body = (await target.wire.get("/v1/models")).ok()
    expect_equal("the object", body.get("object"), "list")
    expect(all(card.get("object") == "model" for card in body["data"]), "object: model", body["data"][0])


@check(18)
async def one_model(target: Target) -> None:
    """/v1/models/NAME describes one model, and an unknown one is HTTP 404."""
    found = await target.openai.models.retrieve(target.model)
    expect_equal("the id", found.id, target.model)
    answer = await target.wire.get("/v1/models/no-such-model-here")
    expect_equal("the status", answer.status, 404)


@check(18)
async def completions(target: Target) -> None:
    """/v1/completions continues a text, whole and streamed."""
    fields: dict[str, Any] = {"model": target.model, "prompt": "One, two, three,", "max_tokens": 6, "temperature": 0}
    whole = await target.openai.completions.create(**fields)
    expect_equal("object and reason", [whole.object, whole.choices[0].finish_reason], ["text_completion", "length"])
    pieces = [chunk async for chunk in await target.openai.completions.create(**fields, stream=True)]
    expect_equal("the streamed text", "".join(c.text for p in pieces for c in p.choices), whole.choices[0].text)


@check(18)
async def completions_of_several_prompts(target: Target) -> None:
    """/v1/completions takes several prompts, and `echo`."""
    fields: dict[str, Any] = {"model": target.model, "max_tokens": 3, "temperature": 0}
    found = await target.openai.completions.create(**fields, prompt=["One, two,", "Red, green,"])
    expect_equal("the indexes", [choice.index for choice in found.choices], [0, 1])
    echoed = await target.openai.completions.create(**fields, prompt="One, two,", echo=True)
    expect(echoed.choices[0].text.startswith("One, two,"), "the prompt before the text", echoed.choices[0].text)


@check(18)
async def embeddings(target: Target) -> None:
    """There is /v1/embeddings."""
    await _expect_there(target, "/v1/embeddings", {"model": target.model, "input": "Hi"})


@check(18)
async def responses(target: Target) -> None:
    """There is /v1/responses."""
    await _expect_there(target, "/v1/responses", {"model": target.model, "input": "Hi", "max_output_tokens": 16})


@check(18)
async def messages(target: Target) -> None:
    """There is /v1/messages, and /v1/messages/count_tokens."""
    body = {"model": target.model, "messages": [user(HELLO)]}
    await _expect_there(target, "/v1/messages", {**body, "max_tokens": 2})
    await _expect_there(target, "/v1/messages/count_tokens", body)


@check(18)
async def tokenize_and_back(target: Target) -> None:
    """/tokenize and /detokenize are inverse to each other."""
    text = f"Hello, world! {EMOJI}"
    tokens = (await target.wire.post("/tokenize", {"content": text, "model": target.model})).ok()["tokens"]
    expect(bool(tokens) and all(isinstance(token, int) for token in tokens), "token ids", tokens)
    back = (await target.wire.post("/detokenize", {"tokens": tokens, "model": target.model})).ok()["content"]
    expect_equal("the text", back.strip(), text)


@check(18)
async def health(target: Target) -> None:
    """/health says that the server runs."""
    expect_equal("the status", (await target.wire.get("/health")).status, 200)


@check(18)
async def metrics(target: Target) -> None:
    """/metrics is what Prometheus reads."""
    answer = await target.wire.get("/metrics")
    expect(answer.status == 200, "HTTP 200", f"HTTP {answer.status}: {answer.text}")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    wrong = [line for line in lines if not re.fullmatch(r"[\w:]+(\{.*\})? \S+( \d+)?", line)]
    expect(bool(lines) and not wrong, "lines of name and number", wrong[:1] or answer.text)


@check(18)
async def docs(target: Target) -> None:
    """/docs shows the API, and /openapi.json describes it."""
    page = await target.wire.get("/docs")
    expect(page.status == 200 and "<html" in page.text.lower(), "a page at /docs", f"HTTP {page.status}")
    paths = (await target.wire.get("/openapi.json")).ok().get("paths") or {}
    expect("/v1/chat/completions" in paths, "/v1/chat/completions in /openapi.json", sorted(paths))
