"""From a model's events to an answer."""

from __future__ import annotations

import json

from tests.scripted_backend import Script, ScriptedBackend
from tests.server.running import serving_scripted


def test_a_stream_knows_the_length_of_the_prompt_from_its_beginning() -> None:
    backend = ScriptedBackend(Script("Hi!", n_progress=0))
    body = {"max_tokens": 8, "messages": [{"role": "user", "content": "Hello."}], "stream": True}
    with serving_scripted({"scripted": backend}) as server:
        lines = server.post("/v1/messages", **body).text.splitlines()
    start = json.loads(next(line for line in lines if line.startswith("data:")).removeprefix("data:"))
    assert start["type"] == "message_start"
    assert start["message"]["usage"]["input_tokens"] == len("<user>Hello.<assistant>")
