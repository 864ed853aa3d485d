from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from localllm.chat.messages import Message
from localllm.chat.template import ChatTemplate
from localllm.errors import RequestError, TemplateError

TEMPLATES = Path(__file__).parent / "templates"
SYSTEM = {"role": "system", "content": "Be brief."}
HI = {"role": "user", "content": "Hi"}
YO = {"role": "assistant", "content": "Yo"}
BYE = {"role": "user", "content": "Bye"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "2"}


def _template(name: str, **kwargs: Any) -> ChatTemplate:
    source = (TEMPLATES / f"{name}.jinja").read_text()
    return ChatTemplate(source, bos_text="<s>", eos_text="</s>", **kwargs)


@pytest.mark.parametrize(
    ("name", "messages", "expected"),
    [
        (
            "smollm2",
            [HI],
            "<|im_start|>system\n"
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "smollm2",
            [SYSTEM, HI, YO, BYE],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "qwen2.5-coder",
            [HI, CALL, RESULT],
            "<|im_start|>system\n"
            "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n"
            '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n'
            "</tool_call><|im_end|>\n"
            "<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama3",
            [SYSTEM, HI, YO, BYE],
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "llama3",
            [HI, CALL, RESULT],
            "<s><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
            '{"name": "add", "parameters": {"a": 1}}<|eot_id|>'
            '<|start_header_id|>ipython<|end_header_id|>\n\n"2"<|eot_id|>'
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma",
            [SYSTEM, HI, YO, BYE],
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("gemma", [HI, BYE], "<s><start_of_turn>user\nHi\n\nBye<end_of_turn>\n<start_of_turn>model\n"),
        ("mistral", [SYSTEM, HI, YO, BYE], "<s>[INST] Hi[/INST] Yo</s>[INST] Be brief.\n\nBye[/INST]"),
        (
            "mistral",
            [HI, YO, SYSTEM, BYE],
            "<s>[INST] Hi[/INST] Yo</s>[INST] Be brief.\n\nBye[/INST]",
        ),
        (
            "mistral",
            [HI, CALL, RESULT],
            '<s>[INST] Hi[/INST][TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}]</s>'
            '[TOOL_RESULTS] {"content": 2}[/TOOL_RESULTS]',
        ),
        ("parts_only", [SYSTEM, HI], "<system>Be brief.</system><user>Hi</user>"),
    ],
)
def test_template_renders_expected_text(name: str, messages: list[Any], expected: str) -> None:
    assert _template(name).render(messages) == expected


def test_content_parts_are_joined_for_templates_of_strings() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    rendered = _template("gemma").render([{"role": "user", "content": parts}])
    assert rendered == "<s><start_of_turn>user\na\nb<end_of_turn>\n<start_of_turn>model\n"


def test_developer_is_a_system_message() -> None:
    developer = {"role": "developer", "content": "Be brief."}
    assert _template("smollm2").render([developer, HI]) == _template("smollm2").render([SYSTEM, HI])


def test_no_text_is_lost_where_the_system_message_comes_late_and_alone() -> None:
    rendered = _template("gemma").render([HI, YO, SYSTEM])
    assert rendered.endswith("<start_of_turn>user\nBe brief.<end_of_turn>\n<start_of_turn>model\n")


def test_generation_prompt_is_optional() -> None:
    rendered = _template("gemma").render([HI], add_generation_prompt=False)
    assert rendered == "<s><start_of_turn>user\nHi<end_of_turn>\n"


def test_tools_are_shown_or_refused_never_dropped() -> None:
    rendered = _template("qwen2.5-coder").render([HI], tools=[TOOL])
    assert '{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}' in rendered
    assert not _template("smollm2").supports_tools
    with pytest.raises(TemplateError, match="tools"):
        _template("smollm2").render([HI], tools=[TOOL])


def test_keyword_arguments_reach_the_template() -> None:
    template = ChatTemplate("{{ enable_thinking }}{{ messages[0].content }}", bos_text="", eos_text="")
    assert template.render([HI], enable_thinking=False) == "FalseHi"
    with pytest.raises(RequestError):
        template.render([HI], gadget=object())


def test_reasoning_of_the_past_reaches_the_template() -> None:
    template = ChatTemplate("{{ messages[0].reasoning_content }}", bos_text="", eos_text="")
    assert template.render([Message(role="assistant", content="a", reasoning="hm")]) == "hm"


def test_arguments_stay_text_for_templates_that_print_them() -> None:
    source = (
        "{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert ChatTemplate(source, bos_text="", eos_text="").render([CALL]) == 'add{"a": 1}'


def test_beginning_token_in_the_text_is_noticed() -> None:
    template = _template("llama3")
    assert template.starts_with_bos(template.render([HI]))
    assert not template.starts_with_bos("Hi")
    assert not ChatTemplate(None, bos_text="", eos_text="").starts_with_bos("Hi")


def test_no_template_means_chatml() -> None:
    template = ChatTemplate(None, bos_text="", eos_text="")
    assert template.is_fallback
    assert template.render([SYSTEM, HI]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template.render([HI, CALL, RESULT], add_generation_prompt=False) == (
        "<|im_start|>user\nHi<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n"
    )
    assert '"name": "add"' in template.render([SYSTEM, HI], tools=[TOOL])


def test_broken_template_is_an_error_unless_the_caller_asks_for_the_fallback() -> None:
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate("x\n{% if %}", bos_text="", eos_text="")
    template = ChatTemplate("x\n{% if %}", bos_text="", eos_text="", fallback=True)
    assert template.is_fallback
    assert template.render([HI]).startswith("<|im_start|>user\nHi")


def test_refusal_of_the_template_is_passed_on() -> None:
    refusing = ChatTemplate("{{ raise_exception('Not on Sundays.') }}", bos_text="", eos_text="")
    with pytest.raises(TemplateError, match="Not on Sundays"):
        refusing.render([HI])


def test_call_ids_that_a_template_refuses_are_shortened() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "call_0123456789", "function": {"name": "add"}}]}
    result = {"role": "tool", "tool_call_id": "call_0123456789", "content": "3"}
    text = _template("mistral").render([HI, call, result])
    (call_id,) = re.findall(r'"id": ?"([0-9a-zA-Z]{9})"', text)
    assert call_id != "call_0123" and "call_0123456789" not in text


def test_endless_template_is_stopped_once_and_not_for_every_question() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    template = ChatTemplate(endless, bos_text="", eos_text="")
    started = time.thread_time()
    with pytest.raises(TemplateError, match="stopped"):
        template.render([SYSTEM, HI, HI, CALL, RESULT, SYSTEM], tools=[TOOL])
    assert time.thread_time() - started < 2.5


def test_rendering_a_long_conversation_is_cheap() -> None:
    template = _template("qwen2.5-coder")
    messages = [HI, YO] * 50
    template.render(messages)
    started = time.thread_time()
    template.render(messages)
    assert time.thread_time() - started < 0.1
