"""Tools, schemas and reasoning with real models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import localllm
from localllm.llm import LLM
from tests.demo_model import require_demo_model

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": PARAMETERS},
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search_web",
        "description": "Search the web.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "maxLength": 40}},
            "required": ["query"],
        },
    },
}
QUESTION = "What is the weather in Paris right now?"


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LLM]:
    with localllm.load(str(require_demo_model()), n_ctx=2048, in_process=True) as llm:
        yield llm


@pytest.mark.real
@pytest.mark.parametrize("seed", range(3))
def test_small_model_that_must_call_makes_a_valid_call(smollm2: LLM, seed: int) -> None:
    done = smollm2.ask(
        QUESTION,
        tools=[WEATHER, SEARCH],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
        seed=seed,
        temperature=1.5,
    )
    assert (done.finish_reason, done.text, len(done.tool_calls)) == ("tool_calls", "", 1)
    function = done.tool_calls[0].function
    schema = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (WEATHER, SEARCH)}[function.name]
    jsonschema.validate(json.loads(function.arguments), schema)


@pytest.mark.real
def test_named_function_is_called(smollm2: LLM) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    done = smollm2.ask("Tell me a joke.", tools=[SEARCH, WEATHER], tool_choice=choice, max_tokens=200, temperature=0)
    assert [call.function.name for call in done.tool_calls] == ["get_weather"]


@pytest.mark.real
def test_reasoning_that_the_prompt_begins_ends_within_its_budget_and_a_schema_follows(smollm2: LLM) -> None:
    source = (smollm2.info.chat_template or "") + "{{ '<think>\n' }}{# </think> #}"
    thinker = LLM(_WithTemplate(smollm2._backend, source))
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    # Without other properties: the model may add them for ever.
    schema = {"type": "object", "properties": {"n": digit}, "required": ["n"], "additionalProperties": False}
    done = thinker.ask(QUESTION, json_schema=schema, reasoning_budget=12, max_tokens=400, temperature=0)
    assert done.finish_reason == "stop"
    jsonschema.validate(json.loads(done.text), schema)
    assert 0 < len(smollm2.tokenize(done.reasoning)) <= 14


class _WithTemplate:
    """A backend whose model has another chat template."""

    def __init__(self, backend: Any, source: str) -> None:
        import msgspec

        self._backend = backend
        self.info = msgspec.structs.replace(backend.info, chat_template=source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def _coder() -> Path:
    path = os.environ.get("LOCALLLM_TEST_QWEN_CODER")
    if path is None or not Path(path).exists():
        pytest.skip("LOCALLLM_TEST_QWEN_CODER names no Qwen2.5-Coder-1.5B-Instruct")
    return Path(path)


@pytest.mark.slow
def test_coder_asks_for_the_weather_by_itself_and_uses_the_answer() -> None:
    with localllm.load(str(_coder()), n_ctx=2048) as llm:
        done = llm.ask(QUESTION, tools=[WEATHER, SEARCH], temperature=0, max_tokens=100)
        assert done.finish_reason == "tool_calls"
        (call,) = done.tool_calls
        assert call.function.name == "get_weather"
        assert json.loads(call.function.arguments)["city"] == "Paris"
        messages = [
            {"role": "user", "content": QUESTION},
            {
                "role": "assistant",
                "content": done.text,
                "tool_calls": [
                    {"id": call.id, "function": {"name": call.function.name, "arguments": call.function.arguments}}
                ],
            },
            {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 31, "sky": "clear"}'},
        ]
        answer = llm.ask(messages, tools=[WEATHER, SEARCH], tool_choice="none", temperature=0, max_tokens=60)
        assert "31" in answer.text and not answer.tool_calls
