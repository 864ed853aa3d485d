"""Calls and results of a conversation, as templates take them."""

from __future__ import annotations

import json
from typing import Any

from localllm.chat.template import ChatTemplate

SHOW = (
    "{% for m in messages %}[{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}]{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<{{ c.function.name }} {{ c.id }}>{% endfor %}{% endfor %}"
)
SINGLE = SHOW.replace(
    "{% for c in",
    "{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('one') }}{% endif %}{% for c in",
)


def _call(name: str, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Go."},
    {"role": "assistant", "content": "Both.", "tool_calls": [_call("f", "1"), _call("g", "2")]},
    {"role": "tool", "tool_call_id": "2", "content": "G"},
    {"role": "tool", "tool_call_id": "1", "content": "F"},
    {"role": "user", "content": "On."},
]


def test_results_name_their_function() -> None:
    text = ChatTemplate(SHOW, bos_text="", eos_text="").render(MESSAGES)
    assert text == "[user]Go.[assistant]Both.<f 1><g 2>[tool g]G[tool f]F[user]On."


def test_template_of_one_call_a_message_gets_them_one_after_the_other_with_their_results() -> None:
    text = ChatTemplate(SINGLE, bos_text="", eos_text="").render(MESSAGES)
    assert text == "[user]Go.[assistant]Both.<f 1>[tool f]F[assistant]<g 2>[tool g]G[user]On."


def test_reasoning_goes_under_the_name_that_the_template_has_for_it() -> None:
    source = "{% for m in messages %}{{ m.content }}{% if m.KEY %}({{ m.KEY }}){% endif %}{% endfor %}"
    message = {"role": "assistant", "content": "A", "reasoning": "because"}
    for key in ("reasoning_content", "thinking", "reasoning"):
        template = ChatTemplate(source.replace("KEY", key), bos_text="", eos_text="")
        assert template.render([{"role": "user", "content": "Q"}, message]) == "QA(because)"


def test_thoughts_and_words_before_a_call_do_not_meet_where_a_template_refuses_both() -> None:
    source = (
        "{% for m in messages %}{% if m.tool_calls and m.content and m.thinking %}{{ raise_exception('both') }}"
        "{% endif %}{{ m.content or '' }}{{ m.thinking or '' }}{{ (m.tool_calls or []) | tojson }}{% endfor %}"
    )
    message = {"role": "assistant", "content": "I look.", "reasoning": "Hm.", "tool_calls": [_call("f", "1")]}
    text = ChatTemplate(source, bos_text="", eos_text="").render([{"role": "user", "content": "Q"}, message])
    assert "I look." in text and "Hm." not in text and json.dumps("f") in text
