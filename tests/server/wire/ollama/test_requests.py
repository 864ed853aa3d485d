"""From Ollama's bodies to the options of `localllm.llm`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from localllm.llm.options import parse_options
from localllm.server.errors import BadRequest
from localllm.server.wire.ollama.history import pack
from localllm.server.wire.ollama.requests import ChatRequest, GenerateRequest

EVERY_OPTION = {
    "num_keep": 5, "seed": 42, "num_predict": 100, "draft_num_predict": 4, "top_k": 20, "top_p": 0.9, "min_p": 0.0,
    "typical_p": 0.7, "repeat_last_n": 33, "temperature": 0.8, "repeat_penalty": 1.2, "presence_penalty": 1.5,
    "frequency_penalty": 1.0, "penalize_newline": True, "stop": ["\n", "user:"], "numa": False, "num_ctx": 1024,
    "num_batch": 2, "num_gpu": 1, "main_gpu": 0, "use_mmap": True, "num_thread": 8, "mirostat": 0, "low_vram": False,
}  # fmt: skip


def chat_options(**body: Any) -> dict[str, Any]:
    return ChatRequest(**body).chat_options()


def test_every_option_of_ollamas_is_taken_and_those_of_loading_have_no_effect() -> None:
    options = chat_options(options=EVERY_OPTION)
    assert options == {
        "seed": 42, "max_tokens": 100, "top_k": 20, "top_p": 0.9, "min_p": 0.0, "typical_p": 0.7, "repeat_last_n": 33,
        "temperature": 0.8, "repeat_penalty": 1.2, "presence_penalty": 1.5, "frequency_penalty": 1.0, "mirostat": 0,
        "stop": ["\n", "user:"],
    }  # fmt: skip
    parse_options(options)


@pytest.mark.parametrize("num_predict", [-2, -1, 0, None])
def test_no_limit_is_no_limit(num_predict: int | None) -> None:
    assert "max_tokens" not in chat_options(options={"num_predict": num_predict})


def test_a_negative_seed_draws_one() -> None:
    assert "seed" not in chat_options(options={"seed": -1})
    assert chat_options(options={"seed": 0})["seed"] == 0


def test_forms_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert chat_options(format=schema) == {"json_schema": schema}
    assert chat_options(format="json") == {"json_object": True}
    assert chat_options(format="") == {} == chat_options(format=None)
    with pytest.raises(ValidationError):
        ChatRequest(format="yaml")  # type: ignore[arg-type]


def test_thinking_is_a_switch_or_a_level() -> None:
    assert chat_options(think=True) == {"thinking": True}
    assert chat_options(think=False) == {"thinking": False}
    assert chat_options(think="low") == {"thinking": True, "template_kwargs": {"reasoning_effort": "low"}}
    assert chat_options(think="max")["template_kwargs"] == {"reasoning_effort": "high"}
    with pytest.raises(ValidationError):
        ChatRequest(think="a lot")  # type: ignore[arg-type]


def test_logprobs() -> None:
    assert chat_options(logprobs=True) == {"logprobs": 0}
    assert chat_options(logprobs=True, top_logprobs=3) == {"logprobs": 3}
    assert chat_options(top_logprobs=3) == {}


def test_streaming_is_the_default() -> None:
    assert ChatRequest().streams and ChatRequest(stream=None).streams and not ChatRequest(stream=False).streams


def test_messages_take_openais_shape() -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    request = ChatRequest.model_validate(
        {
            "messages": [
                {"role": "System", "content": "Be brief."},
                {"role": "user"},
                {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
                {"role": "tool", "content": "3", "tool_name": "f"},
            ]
        }
    )
    assert request.openai_messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [call]},
        {"role": "tool", "content": "3", "name": "f"},
    ]


def test_images_are_refused_and_the_missing_part_is_named() -> None:
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "What?", "images": ["aGk="]}]})
    with pytest.raises(BadRequest, match="mmproj") as caught:
        request.openai_messages()
    assert caught.value.param == "messages[0].images"
    with pytest.raises(BadRequest, match="mmproj"):
        GenerateRequest(prompt="What?", images=["aGk="]).check()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"template": "{{ .Prompt }}"}, "Jinja"),
        ({"raw": True, "system": "x"}, "raw"),
        ({"raw": True, "context": [1]}, "raw"),
    ],
)
def test_what_is_not_supported_is_refused(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        GenerateRequest(prompt="x", **fields).check()


def test_a_prompt_goes_on_from_its_context() -> None:
    before = [
        {"role": "system", "content": "Old."},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]
    request = GenerateRequest(prompt="3", context=pack(before))
    assert request.conversation() == [*before, {"role": "user", "content": "3"}]
    renewed = GenerateRequest(prompt="3", context=pack(before), system="New.").conversation()
    assert [m["content"] for m in renewed] == ["New.", "1", "2", "3"]


def test_only_an_answer_of_a_conversation_has_a_context() -> None:
    assert GenerateRequest(prompt="x").keeps_context
    assert not GenerateRequest(prompt="x", raw=True).keeps_context
    assert not GenerateRequest(prompt="x", suffix="y").keeps_context


def test_a_model_without_a_template_gets_the_system_text_first() -> None:
    assert GenerateRequest(prompt="Go on", system="A story.").plain_text() == "A story.\n\nGo on"
