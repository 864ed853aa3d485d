"""From a body of OpenAI's Responses API to messages and options."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.llm.options import parse_options
from localllm.server.errors import BadRequest
from localllm.server.wire.response_items import parse_items, sealed
from localllm.server.wire.responses import ResponseRequest

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CLOCK = {"type": "function", "name": "clock"}
CHAT_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True},
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def messages(given: Any, find_item: Any = lambda _: None, **fields: Any) -> list[dict[str, Any]]:
    body = ResponseRequest.model_validate({"input": given, **fields})
    return body.messages(parse_items(body.input, find_item))


def options(**fields: Any) -> dict[str, Any]:
    made = ResponseRequest.model_validate({"input": "Hi.", **fields}).options()
    parse_options(made)
    return made


def refusal(given: Any = "Hi.", **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        _ = messages(given, **fields), options(**fields)
    return caught.value


def test_string_is_a_message_of_the_user_after_the_instructions() -> None:
    assert messages("Hi.", instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [text("Hi.")]},
    ]


def test_messages_keep_their_roles_and_texts() -> None:
    given = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "content": [{"type": "output_text", "text": "Hello."}, {"type": "refusal", "refusal": "No."}],
        },
    ]
    assert messages(given) == [
        {"role": "developer", "content": [text("Be brief.")]},
        {"role": "user", "content": [text("Hi.")]},
        {"role": "assistant", "content": [text("Hello."), text("No.")]},
    ]


def test_thought_text_and_calls_of_one_turn_are_one_message() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    given = [
        {"role": "user", "content": "Weather?"},
        reasoning,
        {"role": "assistant", "content": "Let me see."},
        CALL,
        {**CALL, "call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_1", "output": "22 °C"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "5 °C"}]},
        reasoning,
        CALL,
    ]
    assert messages(given)[1:] == [
        {
            "role": "assistant",
            "reasoning": "Hm.",
            "content": [text("Let me see.")],
            "tool_calls": [CHAT_CALL, {**CHAT_CALL, "id": "call_2"}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "22 °C"},
        {"role": "tool", "tool_call_id": "call_2", "content": "5 °C"},
        {"role": "assistant", "reasoning": "Hm.", "content": "", "tool_calls": [CHAT_CALL]},
    ]


def test_second_text_of_the_assistant_is_another_message() -> None:
    given = [{"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert [message["content"] for message in messages(given)] == [[text("One.")], [text("Two.")]]


@pytest.mark.parametrize(
    "kept",
    [
        {"summary": [{"type": "summary_text", "text": "Hm."}]},
        {"summary": [], "encrypted_content": sealed("Hm.")},
        {
            "summary": [{"type": "summary_text", "text": "In short."}],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
    ],
)
def test_reasoning_comes_back_in_whatever_form_the_client_kept_it(kept: dict[str, Any]) -> None:
    assert messages([{"type": "reasoning", "id": "rs_1", **kept}, CALL])[0]["reasoning"] == "Hm."


def test_reasoning_that_another_server_sealed_is_ignored() -> None:
    given = [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAA"}, CALL]
    assert messages(given) == [{"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]}]


def test_reference_stands_for_the_item_that_was_kept() -> None:
    kept = parse_items([CALL], lambda _: None)[0]
    assert messages([{"type": "item_reference", "id": "fc_1"}], {"fc_1": kept}.get)[0]["tool_calls"] == [CHAT_CALL]
    assert "'fc_2' is not kept" in refusal([{"type": "item_reference", "id": "fc_2"}]).message


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "multimodal projector"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}, "text of the file"),
        ({"type": "web_search_call", "id": "x", "status": "completed"}, "not here"),
        ({"type": "custom_tool_call", "call_id": "x"}, "There is message"),
        ({"role": "tool", "content": "x"}, "input.0.role"),
        ({"type": "function_call", "name": "x"}, "input.0.call_id"),
        ({"type": "function_call_output", "call_id": "x", "output": [{"type": "input_image"}]}, "input.0.output.0"),
    ],
)
def test_items_that_cannot_be_honoured_are_refused_by_name(item: dict[str, Any], words: str) -> None:
    error = refusal([item])
    assert words in f"{error.message} {error.hint}"
    assert error.param is not None and error.param.startswith("input.0")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": None}, "input is empty"),
        ({"truncation": "auto"}, "nothing is left out"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "'web_search' tools"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "no tool 'other'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "file_search"}}, "'file_search'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "empty"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ],
)
def test_what_cannot_be_had_is_refused(fields: dict[str, Any], words: str) -> None:
    given = fields.pop("input", "Hi.")
    assert words in refusal(given, **fields).message


def test_fields_become_options() -> None:
    made = options(
        max_output_tokens=5, temperature=0.5, top_p=0.9, reasoning={"effort": "low"}, metadata={"a": "b"}, user="me",
        truncation="disabled", service_tier="auto", parallel_tool_calls=False,
    )  # fmt: skip
    assert made == {
        "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "thinking": True,
        "template_kwargs": {"reasoning_effort": "low"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, {}),
        ({"type": "json_object"}, {"json_object": True}),
        ({"type": "json_schema", "name": "x", "schema": {"type": "object"}}, {"json_schema": {"type": "object"}}),
    ],
)
def test_format_of_the_text_is_an_option(form: dict[str, Any], expected: dict[str, Any]) -> None:
    assert options(text={"format": form}) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        (
            {"tool_choice": {"type": "function", "name": "weather"}},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "weather"}],
                }
            },
            {"tool_choice": "required"},
        ),
    ],
)
def test_tools_and_their_choice_are_options(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert options(tools=[WEATHER], **fields) == {"tools": [CHAT_WEATHER], **expected}


def test_only_the_allowed_tools_are_offered() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
    assert options(tools=[CLOCK, WEATHER], tool_choice=choice) == {"tools": [CHAT_WEATHER], "tool_choice": "auto"}


@pytest.mark.parametrize(
    ("fields", "n_top"), [({"top_logprobs": 3}, 3), ({"include": ["message.output_text.logprobs"]}, 0)]
)
def test_logprobs_come_when_they_are_asked_for(fields: dict[str, Any], n_top: int) -> None:
    assert options(**fields) == {"logprobs": n_top}
