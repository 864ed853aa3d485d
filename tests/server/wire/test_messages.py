"""From a body of Anthropic's Messages API to messages and options."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from localllm.llm.options import parse_options
from localllm.server.errors import BadRequest
from localllm.server.wire.messages import MessagesRequest

WEATHER = {"name": "weather", "description": "Of a city.", "input_schema": {"type": "object"}}
FUNCTION = {"name": "weather", "parameters": {"type": "object"}, "description": "Of a city."}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Genève"}}


def body(*contents: Any, **fields: Any) -> MessagesRequest:
    """A body whose turns are the user's and the assistant's, by turns."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents or ["Hi."])]
    return MessagesRequest.model_validate({"max_tokens": 9, "model": "small", "messages": turns, **fields})


def options(**fields: Any) -> dict[str, Any]:
    made = body(**fields).options()
    parse_options(made)
    return made


def refusal(*contents: Any, **fields: Any) -> BadRequest:
    request = body(*contents, **fields)
    with pytest.raises(BadRequest) as caught:
        _ = request.chat_messages(), request.options()
    return caught.value


def test_system_is_the_first_message_and_its_cache_marks_are_ignored() -> None:
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    system = {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    user = {"role": "user", "content": "Hi."}
    assert body(system="Be brief.").chat_messages() == body(system=blocks).chat_messages() == [system, user]


def test_tool_use_and_its_result_become_a_call_and_a_tool_message() -> None:
    said = [
        {"type": "thinking", "thinking": "Which city?", "signature": "s"},
        {"type": "redacted_thinking", "data": "zz"},
        {"type": "text", "text": "Let me see."},
        CALL,
    ]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "22 °C"}]}
    messages = body("Weather?", said, [{"type": "text", "text": "And?"}, result]).chat_messages()
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Genève"}'}}
    assert messages[1:] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me see."}],
            "reasoning": "Which city?",
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "22 °C"},
        {"role": "user", "content": [{"type": "text", "text": "And?"}]},
    ]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({}, ""),
        ({"content": "22 °C"}, "22 °C"),
        ({"content": "no such city", "is_error": True}, "Error: no such city"),
        ({"content": "<tool_use_error>no</tool_use_error>", "is_error": True}, "<tool_use_error>no</tool_use_error>"),
    ],
)
def test_result_of_a_tool_is_text(result: dict[str, Any], text: str) -> None:
    block = {"type": "tool_result", "tool_use_id": "toolu_1", **result}
    assert body("Weather?", [CALL], [block]).chat_messages()[-1]["content"] == text


def test_text_documents_and_search_results_are_read() -> None:
    document = {"type": "document", "title": "A", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}
    found = {"type": "search_result", "source": "s", "title": "B", "content": [{"type": "text", "text": "def"}]}
    parts = body([document, found]).chat_messages()[0]["content"]
    assert [part["text"] for part in parts] == ["A\nabc", "B (s)\ndef"]


def test_system_message_within_the_conversation_stays_there() -> None:
    turns = [{"role": "user", "content": "Hi."}, {"role": "system", "content": "Be brief."}]
    assert body(messages=turns).chat_messages() == turns


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "source": {}}, "multimodal projector"),
        ({"type": "document", "source": {"type": "base64", "data": "x"}}, "text of the file"),
        ({"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}, "not here"),
        ({"type": "novelty"}, "There is text"),
        ({"text": "no type"}, "an object with a type"),
        ({"type": "text", "text": 3}, "messages.0.content.0.text"),
        ({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image"}]}, "messages.0.content.0.content.0"),
    ],
)
def test_blocks_that_cannot_be_honoured_are_refused_by_name(block: dict[str, Any], words: str) -> None:
    error = refusal([block])
    assert words in f"{error.message} {error.hint}"
    assert error.param is not None and error.param.startswith("messages.0.content.0")


def test_calls_without_results_are_refused() -> None:
    assert "results are missing" in refusal("Weather?", [CALL]).message


def test_max_tokens_is_required() -> None:
    with pytest.raises(ValidationError, match="max_tokens"):
        MessagesRequest.model_validate({"model": "small", "messages": [{"role": "user", "content": "Hi."}]})


def test_sampling_and_stop_sequences_are_options() -> None:
    made = options(temperature=0.5, top_k=3, top_p=0.9, stop_sequences=["END"], metadata={"user_id": "me"})
    assert made == {
        "temperature": 0.5, "top_k": 3, "top_p": 0.9, "stop": ["END"], "max_tokens": 9, "thinking": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (None, {"thinking": False}),
        ({"type": "disabled"}, {"thinking": False}),
        ({"type": "adaptive"}, {"thinking": True}),
        ({"type": "enabled", "budget_tokens": 2000}, {"thinking": True, "reasoning_budget": 2000}),
    ],
)
def test_thinking_is_off_unless_asked_for(thinking: Any, expected: dict[str, Any]) -> None:
    assert options(thinking=thinking) == {"max_tokens": 9, **expected}


def test_thinking_without_a_budget_is_refused() -> None:
    assert "budget_tokens" in refusal(thinking={"type": "enabled"}).message


def test_effort_and_schema_of_the_output_are_options() -> None:
    schema = {"type": "object", "properties": {}}
    made = options(output_config={"effort": "max", "format": {"type": "json_schema", "schema": schema}})
    assert (made["template_kwargs"], made["json_schema"]) == ({"reasoning_effort": "high"}, schema)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ],
)
def test_tools_and_their_choice_are_options(choice: Any, expected: dict[str, Any]) -> None:
    made = options(tools=[WEATHER], tool_choice=choice)
    tools = [{"type": "function", "function": FUNCTION}]
    assert made == {"max_tokens": 9, "thinking": False, "tools": tools, **expected}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "'web_search_20250305' is a tool of Anthropic's",
        ),
        ({"tools": [{"name": "weather"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "no tool 'other'"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ],
)
def test_tools_that_cannot_be_had_are_refused(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(**fields).message


def test_last_turn_of_the_assistant_is_continued() -> None:
    made = body("Hi.", "Hello, my").options()
    parse_options(made)
    assert (made["continue_final_message"], made["add_generation_prompt"]) == (True, False)
