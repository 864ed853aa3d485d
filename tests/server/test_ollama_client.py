"""Ollama's own Python client against the real server and a real model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import ollama
import pytest

from tests.demo_model import require_demo_model
from tests.server.running import Running, serving_files

pytestmark = pytest.mark.real

GREEDY = {"temperature": 0, "num_predict": 12}
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving_files({"smollm2": require_demo_model()}, n_ctx=2048) as running:
        yield running


@pytest.fixture
def client(server: Running) -> ollama.Client:
    return ollama.Client(host=server.url)


def test_chat_streamed_and_whole_say_the_same(client: ollama.Client) -> None:
    whole = client.chat(model="smollm2", messages=QUESTION, options=GREEDY)
    parts = list(client.chat(model="smollm2", messages=QUESTION, options=GREEDY, stream=True))
    assert "sky" in (whole.message.content or "")
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (whole.eval_count, whole.done_reason) == (parts[-1].eval_count, parts[-1].done_reason)
    assert whole.prompt_eval_count == 36 and (whole.eval_duration or 0) > 0
    assert (whole.total_duration or 0) > (whole.eval_duration or 0)


def test_generate_remembers_by_its_context(client: ollama.Client) -> None:
    first = client.generate(model="smollm2", prompt="My name is Ada. Say hello.", options=GREEDY)
    second = client.generate(model="smollm2", prompt="What is my name?", context=first.context, options=GREEDY)
    assert (second.prompt_eval_count or 0) > (first.prompt_eval_count or 0) + (first.eval_count or 0)


def test_raw_text_is_continued_without_a_template(client: ollama.Client) -> None:
    answer = client.generate(model="smollm2", prompt="One, two, three,", raw=True, options={**GREEDY, "num_predict": 4})
    assert answer.prompt_eval_count == 6 and "four" in (answer.response or "") and answer.context is None
    assert answer.done_reason == "length"


def test_json_and_schemas_hold(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    answer = client.chat(model="smollm2", messages=QUESTION, format=schema, options={"temperature": 0})
    found = json.loads(answer.message.content or "")
    assert set(found) == {"city", "n"} and found["city"] in ("Paris", "Rome") and 0 <= found["n"] <= 9
    some = client.generate(
        model="smollm2", prompt="Reply in JSON.", format="json", options={"num_predict": 40, "seed": 3}
    )
    assert (some.response or "").lstrip().startswith("{")


def test_seeds_and_stops_are_honoured(client: ollama.Client) -> None:
    options = {"seed": 11, "num_predict": 8, "temperature": 1.0}
    texts = {client.chat(model="smollm2", messages=QUESTION, options=options).message.content for _ in range(2)}
    assert len(texts) == 1
    stopped = client.chat(model="smollm2", messages=QUESTION, options={**GREEDY, "stop": ["blue"]})
    assert "blue" not in (stopped.message.content or "") and stopped.done_reason == "stop"


def test_logprobs_come_with_the_pieces(client: ollama.Client) -> None:
    answer = client.chat(model="smollm2", messages=QUESTION, options=GREEDY, logprobs=True, top_logprobs=2)
    assert answer.logprobs and len(answer.logprobs) >= 5
    assert all(len(entry.top_logprobs or ()) == 2 and entry.logprob <= 0 for entry in answer.logprobs)


def test_models_are_listed_shown_and_running(client: ollama.Client) -> None:
    client.generate(model="smollm2", keep_alive=-1)
    [listed] = client.list().models
    assert listed.model == "smollm2:latest" and listed.details and listed.details.quantization_level == "Q4_1"
    shown = client.show("smollm2")
    assert shown.capabilities == ["completion"] and (shown.modelinfo or {})["llama.context_length"] == 2048
    [running] = client.ps().models
    assert (running.model, running.context_length) == ("smollm2:latest", 2048) and (running.size or 0) > 10**8
    assert client.pull("smollm2").status == "success"


def test_errors_are_the_clients_own(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat(model="llama3", messages=QUESTION)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="2048") as long:
        client.generate(model="smollm2", prompt="word " * 3000)
    assert long.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="mmproj"):
        client.chat(model="smollm2", messages=[{"role": "user", "content": "What is it?", "images": [b"\x89PNG"]}])
    with pytest.raises(ollama.ResponseError, match="localllm serve") as pull:
        client.pull("llama3")
    assert pull.value.status_code == 501
    with pytest.raises(ollama.ResponseError, match="fill-in-the-middle"):
        client.generate(model="smollm2", prompt="def f(", suffix="return x")


def test_a_chat_model_embeds(client: ollama.Client) -> None:
    answer = client.embed(model="smollm2", input=["A cat sits on a mat.", "A kitten rests on a rug."])
    assert [len(vector) for vector in answer.embeddings] == [576, 576] and (answer.prompt_eval_count or 0) > 10
    assert len(client.embeddings(model="smollm2", prompt="A cat").embedding) == 576


def test_many_asynchronous_chats_at_once(server: Running) -> None:
    async def ask(client: ollama.AsyncClient) -> str:
        text = ""
        async for part in await client.chat(model="smollm2", messages=QUESTION, options=GREEDY, stream=True):
            text += part.message.content or ""
        return text

    async def run() -> list[str]:
        client = ollama.AsyncClient(host=server.url)
        return await asyncio.gather(*(ask(client) for _ in range(6)))

    texts = asyncio.run(run())
    assert len(texts) == 6 and all(text.startswith("The ") for text in texts)


def test_unloading_and_loading_again(client: ollama.Client) -> None:
    assert client.generate(model="smollm2", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.chat(model="smollm2", messages=QUESTION, options=GREEDY).load_duration > 10**7  # type: ignore[operator]
