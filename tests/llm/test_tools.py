"""Tools and reasoning as a caller of `LLM.chat` sees them, told by a scripted backend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localllm.errors import InvalidGrammar, RequestError
from localllm.llm import LLM, ChatEvent, Done, ReasoningDelta, TextDelta, ToolCallDelta
from tests.scripted_backend import Script, ScriptedBackend

THINKING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.reasoning_content %}({{ m.reasoning_content }})"
    "{% endif %}{% for c in m.tool_calls or [] %}<tool_call>{{ c | tojson }}</tool_call>{% endfor %}{% endfor %}"
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def deltas(events: list[ChatEvent]) -> list[ToolCallDelta]:
    return [event for event in events if isinstance(event, ToolCallDelta)]


def ask(answer: str | Script, **options: Any) -> tuple[list[ChatEvent], Done, ScriptedBackend]:
    backend = ScriptedBackend(answer, chat_template=options.pop("chat_template", THINKING))
    events = list(LLM(backend).chat("What is it like in Paris?", **options))
    done = events[-1]
    assert isinstance(done, Done)
    return events, done, backend


def test_call_arrives_as_deltas_of_which_the_first_has_name_and_id() -> None:
    events, done, _ = ask(f"I look.\n{CALL}", tools=[WEATHER])
    calls = deltas(events)
    assert calls[0].name == "get_weather" and calls[0].id is not None and calls[0].id.startswith("call_")
    assert all(call.name is None and call.id is None and call.call_index == 0 for call in calls[1:])
    assert len(calls) > 5 and json.loads("".join(call.arguments for call in calls)) == {"city": "Paris"}
    assert (done.text, done.finish_reason) == ("I look.", "tool_calls")
    assert [(c.id, c.function.name, c.function.arguments) for c in done.tool_calls] == [
        (calls[0].id, "get_weather", '{"city": "Paris"}')
    ]


def test_several_calls_have_an_index_and_an_id_each() -> None:
    events, done, _ = ask(f"{CALL}\n{CALL}", tools=[WEATHER])
    assert {call.call_index for call in deltas(events)} == {0, 1}
    assert len({call.id for call in done.tool_calls}) == 2


def test_reasoning_is_split_from_text() -> None:
    events, done, _ = ask("<think>\nHm, <tool_call> no.\n</think>\n\nIt rains.", tools=[WEATHER])
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "Hm, <tool_call> no."
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "It rains."
    assert (done.reasoning, done.text, done.finish_reason) == ("Hm, <tool_call> no.", "It rains.", "stop")


def test_length_comes_before_tool_calls() -> None:
    _, done, _ = ask(f"{CALL} and more", tools=[WEATHER], max_tokens=len(CALL) + 2)
    assert done.finish_reason == "length" and len(done.tool_calls) == 1


def test_call_that_is_cut_off_keeps_what_came() -> None:
    _, done, _ = ask(CALL, tools=[WEATHER], max_tokens=len(CALL) - 20)
    assert done.finish_reason == "length"
    assert done.tool_calls[0].function.arguments == '{"city": "P'


@pytest.mark.parametrize("options", [{}, {"tools": [WEATHER], "tool_choice": "none"}])
def test_without_tools_to_call_nothing_is_parsed_as_a_call(options: dict[str, Any]) -> None:
    events, done, _ = ask(CALL, **options)
    assert (done.text, done.tool_calls, deltas(events)) == (CALL, (), [])


def test_template_is_shown_the_tools() -> None:
    _, _, backend = ask("ok", tools=[WEATHER])
    assert json.dumps(WEATHER["function"]["name"]) in backend.calls[0].prompt_text


def test_template_without_tools_gets_them_in_the_system_message() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    _, done, backend = ask(CALL, tools=[WEATHER], chat_template=template)
    prompt = backend.calls[0].prompt_text
    assert prompt.startswith("<system>") and "get_weather" in prompt and "<tool_call>" in prompt
    assert done.finish_reason == "tool_calls"


def test_calls_and_results_in_the_history_reach_a_template_that_knows_none() -> None:
    backend = ScriptedBackend("ok")
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "snow"},
    ]
    LLM(backend).ask(messages)
    assert backend.calls[0].prompt_text == (
        '<user>Oslo?<assistant><tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        "<user><tool_response>\nsnow\n</tool_response><assistant>"
    )


def test_tools_are_enforced_by_a_grammar() -> None:
    for choice in ("auto", "required", "none", {"type": "function", "function": {"name": "get_weather"}}):
        _, _, backend = ask(CALL, tools=[WEATHER], tool_choice=choice)
        grammar = backend.calls[0].controls.grammar
        assert grammar is not None and grammar.kind == "lark"


def test_schema_waits_for_the_end_of_the_reasoning() -> None:
    _, _, backend = ask("{}", json_schema={"type": "object"})
    grammar = backend.calls[0].controls.grammar
    assert grammar is not None and grammar.kind == "json_schema" and "</think>" in grammar.preamble
    _, _, backend = ask("{}", json_schema={"type": "object"}, thinking=False)
    grammar = backend.calls[0].controls.grammar
    assert grammar is not None and grammar.preamble == ""


def test_thinking_is_switched_off_by_the_templates_own_switch() -> None:
    _, done, backend = ask("It rains.", thinking=False)
    assert backend.calls[0].prompt_text.endswith("<assistant><think>\n\n</think>\n\n")
    assert (done.text, done.reasoning) == ("It rains.", "")


@pytest.mark.parametrize(("opening", "closed"), [("", "<think>\n\n</think>\n\n"), ("<think>\n", "\n</think>\n\n")])
def test_thinking_without_a_switch_is_switched_off_by_an_empty_block(opening: str, closed: str) -> None:
    template = "{{ messages[0].content.split('</think>')[-1] }}<assistant>" + opening.replace("\n", "{{ '\n' }}")
    _, _, backend = ask("It rains.", thinking=False, chat_template=template)
    assert backend.calls[0].prompt_text.endswith(f"<assistant>{opening}{closed}")


def test_reasoning_that_the_prompt_began_is_reasoning() -> None:
    template = "{{ messages[0].content.split('</think>')[-1] }}<assistant><think>{{ '\n' }}"
    _, done, _ = ask("Hm.\n</think>\n\nYes.", chat_template=template)
    assert (done.reasoning, done.text) == ("Hm.", "Yes.")


def test_budget_reaches_the_backend() -> None:
    _, _, backend = ask("ok", reasoning_budget=7)
    limit = backend.calls[0].controls.reasoning
    assert limit is not None and (limit.n_tokens, limit.is_open) == (7, False)
    assert bytes(limit.ending) == b"\n</think>\n\n"
    _, _, backend = ask("ok", reasoning_budget=0)
    assert backend.calls[0].prompt_text.endswith("</think>\n\n")


def test_logprobs_are_those_of_the_text_they_come_with() -> None:
    events, _, _ = ask(f"<think>\nHm\n</think>\n\nHi.\n{CALL}", tools=[WEATHER], logprobs=0)
    for kind, expected in ((TextDelta, "Hi."), (ReasoningDelta, "Hm")):
        found = [event for event in events if isinstance(event, kind)]
        spelled = b"".join(choice.chosen.piece for event in found for choice in event.logprobs)
        assert spelled.decode() == "".join(event.text for event in found) == expected


def test_n_completions_parse_their_calls_apart() -> None:
    backend = ScriptedBackend(CALL, "No.", chat_template=THINKING)
    events = list(LLM(backend).chat("Paris?", n=2, tools=[WEATHER]))
    ends = {event.index: event for event in events if isinstance(event, Done)}
    assert {i: (end.text, end.finish_reason, len(end.tool_calls)) for i, end in ends.items()} == {
        0: ("", "tool_calls", 1),
        1: ("No.", "stop", 0),
    }
    assert {call.index for call in deltas(events)} == {0}


def test_final_message_is_continued() -> None:
    backend = ScriptedBackend(
        "Paris.", chat_template="{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}<end>{% endfor %}"
    )
    messages = [{"role": "user", "content": "France?"}, {"role": "assistant", "content": "The capital is "}]
    LLM(backend).ask(messages, continue_final_message=True)
    assert backend.calls[0].prompt_text == "[user]France?<end>[assistant]The capital is "


def test_generation_prompt_can_be_left_out_and_the_template_told_more() -> None:
    backend = ScriptedBackend(
        chat_template="{{ messages[0].content }}{{ tone }}{% if add_generation_prompt %}<a>{% endif %}"
    )
    LLM(backend).ask("Hi", add_generation_prompt=False, template_kwargs={"tone": "!"})
    assert backend.calls[0].prompt_text == "Hi!"


def test_count_chat_counts_the_prompt_with_its_tools() -> None:
    backend = ScriptedBackend(chat_template=THINKING)
    llm = LLM(backend)
    llm.ask("Hello", tools=[WEATHER])
    assert llm.count_chat("Hello", tools=[WEATHER]) == len(backend.calls[0].request.prompt) > llm.count_chat("Hello")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tools": "x"}, "tools must be a list"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, r"tools\[0\].function.name"),
        ({"tools": [WEATHER, WEATHER]}, "twice"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "maybe"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "'f'"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": [WEATHER], "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"thinking": "yes"}, "thinking"),
        ({"reasoning_budget": -1}, "reasoning_budget"),
        ({"template_kwargs": {"messages": []}}, "messages"),
        ({"continue_final_message": True}, "assistant"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "exclude"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        LLM(ScriptedBackend()).chat("Hello", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"not": {}}}}}}]},
        {"tools": [WEATHER], "grammar": 'root ::= "a"'},
        {"json_schema": {}, "json_object": True},
    ],
)
def test_what_cannot_be_enforced_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidGrammar):
        LLM(ScriptedBackend()).chat("Hello", **options)


def test_text_takes_no_options_of_conversations() -> None:
    with pytest.raises(RequestError, match="tools is an option of conversations"):
        LLM(ScriptedBackend()).generate("Hello", tools=[WEATHER])
