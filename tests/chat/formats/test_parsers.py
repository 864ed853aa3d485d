"""The parsers of all families: whatever way an output is cut, the same comes out, and nothing is lost."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localllm.chat.formats import CallDelta, Content, Format, Reasoning
from tests.chat.formats.cases import CASES, OSLO, PARIS, STYLES, THINK, Case, toolbox
from tests.chat.formats.streaming import Read, feed, joined, pieces, read


def _read(case: Case, parts: list[str]) -> Read:
    return read(case.style.parser(toolbox(), is_thinking=case.is_thinking), parts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_output_is_read_as_it_is_meant(case: Case) -> None:
    found = _read(case, [case.output])
    assert (found.content, found.reasoning) == (case.content, case.reasoning)
    assert [(name, json.loads(text)) for name, text in found.calls] == [(n, json.loads(a)) for n, a in case.calls]
    assert found.n_complete == len(case.calls)
    assert not case.ids or tuple(found.ids) == case.ids


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_output_read_character_by_character_is_the_same(case: Case) -> None:
    assert _read(case, list(case.output)) == _read(case, [case.output])


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 1000), max_size=8))
@settings(max_examples=300, deadline=None)
def test_output_cut_anywhere_is_the_same(case: Case, cuts: list[int]) -> None:
    assert _read(case, pieces(case.output, cuts)) == _read(case, [case.output])


_FRAGMENTS = [
    *sorted({marker for style in STYLES for marker in style.markers(toolbox())}),
    *("<tool", "_call>", "```json\n", "```", "{", "}", '{"name": "get_weather", ', '"arguments": ', PARIS[1], OSLO[1]),
    *("get_weather", "function", "analysis", "final", "commentary to=functions.get_weather", "[", "]", ",", "\n", " "),
    *("<function=get_weather>", "<parameter=city>", "</parameter>", "</function>", "word", "é", "to=", "assistant"),
]


@given(
    style=st.sampled_from(STYLES),
    parts=st.lists(st.sampled_from(_FRAGMENTS), max_size=14),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
    is_thinking=st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_hostile_output_cut_anywhere_is_the_same(
    style: Format, parts: list[str], cuts: list[int], is_thinking: bool
) -> None:
    text = "".join(parts)
    whole = read(style.parser(toolbox(), is_thinking=is_thinking), text)
    assert read(style.parser(toolbox(), is_thinking=is_thinking), pieces(text, cuts)) == whole
    assert read(style.parser(toolbox(), is_thinking=is_thinking), list(text)) == whole


@given(
    style=st.sampled_from([style for style in STYLES if style.name != "harmony"]),
    parts=st.lists(st.sampled_from([*_FRAGMENTS, "words"]), max_size=14),
)
@settings(max_examples=600, deadline=None)
def test_without_calls_and_reasoning_every_word_is_content(style: Format, parts: list[str]) -> None:
    text = "".join(parts)
    found = read(style.parser(toolbox(), is_thinking=False), text)
    if not found.calls and not found.reasoning and not re.match(r"\s*(<think>|\[THINK\])", text):
        assert found.content == text


_MARKER = re.compile(
    "|".join(map(re.escape, {m for style in STYLES for m in style.markers(toolbox())})) + r"|<\||<think>|```"
)
"""Hypothesis also tries strings that it finds in the code."""


@given(style=st.sampled_from(STYLES), text=st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_plain_text_is_content(style: Format, text: str) -> None:
    assume(not _MARKER.search(text))
    found = read(style.parser(toolbox(), is_thinking=False), list(text))
    assert found.content.split() == text.split() and not found.calls


@pytest.mark.parametrize("case", [case for case in CASES if case.calls], ids=lambda case: case.id)
def test_pieces_of_an_output_lie_in_it_in_order(case: Case) -> None:
    events = feed(case.style.parser(toolbox(), is_thinking=case.is_thinking), list(case.output))
    at = 0
    for event in events:
        if isinstance(event, Content | Reasoning | CallDelta):
            assert at <= event.start <= event.end <= len(case.output)
            at = event.start
        if isinstance(event, Content | Reasoning) and event.end > event.start:
            assert case.output[event.start : event.end] == event.text


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_arguments_stream_while_they_are_written(style: Format) -> None:
    case = next(case for case in CASES if case.style is style and case.calls)
    events = feed(style.parser(toolbox(), is_thinking=case.is_thinking), list(case.output))
    assert len([event for event in events if isinstance(event, CallDelta)]) > 8


@pytest.mark.parametrize("case", [case for case in CASES if case.calls], ids=lambda case: case.id)
def test_output_cut_off_keeps_the_calls_so_far(case: Case) -> None:
    parser = case.style.parser(toolbox(), is_thinking=case.is_thinking)
    early = parser.feed(case.output[: len(case.output) * 3 // 4])
    late = parser.flush()
    found = joined([*early, *late])
    assert found.n_complete <= len(found.calls) <= len(case.calls)
    for (name, text), (expected_name, _) in zip(found.calls, case.calls, strict=False):
        assert name == expected_name and text.startswith("{")


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_without_tools_no_call_is_made(style: Format) -> None:
    case = next(case for case in CASES if case.style is style and case.calls)
    for box in (None, toolbox("none")):
        found = read(style.parser(box, is_thinking=case.is_thinking), case.output)
        assert not found.calls
        assert "city" in found.visible or "text" in found.visible


def test_model_that_repeats_the_start_of_its_reasoning_is_forgiven() -> None:
    style = CASES[0].style
    assert style.tags == THINK
    found = read(style.parser(None, is_thinking=True), "<think>\nA.</think>B.")
    assert (found.reasoning, found.content) == ("A.", "B.")
