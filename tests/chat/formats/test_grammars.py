"""The grammars of all families, with the real compiler: what they let a model write, and what not."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from localllm.chat.formats import Format, Thinking
from localllm.errors import InvalidGrammar
from tests.chat.formats.cases import (
    CASES,
    HARMONY,
    HERMES,
    LLAMA3,
    MISTRAL,
    PARIS,
    QWEN_CODER,
    STYLES,
    WEATHER,
    Case,
    tool,
    toolbox,
)
from tests.chat.formats.streaming import read
from tests.chat.formats.vocabulary import Acceptance, MarkerVocab

SCHEMA = '{"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}'
ANSWER = '{"answer": "5"}'


@functools.cache
def acceptance(style: Format, *, control: bool) -> Acceptance:
    return Acceptance(MarkerVocab(style.markers(toolbox()) if control else ()))


def grammar(
    style: Format, judge: Acceptance, state: Thinking = "optional", schema: str | None = None, **choice: Any
) -> str:
    return style.grammar(toolbox(**choice), schema, judge.vocab.control, state)


def _state(case: Case) -> Thinking:
    return "open" if case.is_thinking else "optional"


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_auto_lets_a_model_write_exactly_what_is_well_formed(case: Case, control: bool) -> None:
    judge = acceptance(case.style, control=control)
    made = grammar(case.style, judge, _state(case))
    # A marker that is a control token is in no text, and so in no reasoning.
    is_in_reasoning = control and any(marker in case.reasoning for marker in case.style.markers(toolbox()))
    assert judge.accepts(made, case.output) == (case.by_grammar and not is_in_reasoning)


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("case", [c for c in CASES if c.by_grammar and not c.calls], ids=lambda case: case.id)
def test_required_refuses_an_answer_without_a_call(case: Case, control: bool) -> None:
    judge = acceptance(case.style, control=control)
    assert not judge.accepts(grammar(case.style, judge, _state(case), choice="required"), case.output)


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_call_with_wrong_arguments_or_of_an_unknown_function_is_refused(style: Format, control: bool) -> None:
    judge = acceptance(style, control=control)
    case = _first_call(style)
    assert case.calls[0][0] in ("get_weather", "write_note")
    for choice in ("auto", "required"):
        made = grammar(style, judge, _state(case), choice=choice)
        assert judge.accepts(made, case.output) or case.content
        for right, wrong in (("city", "town"), ("get_weather", "get_whether"), ("text", "words")):
            spoilt = case.output.replace(right, wrong)
            # A bare object is a call only if it names a known function.
            is_answer = style.name == "llama3" and choice == "auto" and right == "get_weather"
            if spoilt != case.output and right in str(case.calls) and not is_answer:
                assert not judge.accepts(made, spoilt)


def _first_call(style: Format) -> Case:
    return next(c for c in CASES if c.style is style and c.calls and c.by_grammar)


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_none_allows_no_call(style: Format, control: bool) -> None:
    judge = acceptance(style, control=control)
    case = _first_call(style)
    made = grammar(style, judge, _state(case), choice="none")
    assert not judge.accepts(made, case.output)
    text = next((c for c in CASES if c.style is style and c.by_grammar and not c.calls and not c.is_thinking), None)
    assert text is None or judge.accepts(made, text.output)


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_named_function_is_the_only_one(style: Format, control: bool) -> None:
    judge = acceptance(style, control=control)
    case = _first_call(style)
    for name in ("get_weather", "write_note"):
        choice = {"type": "function", "function": {"name": name}}
        made = grammar(style, judge, _state(case), choice=choice)
        n = judge.n_allowed(made, case.output)
        whole = len(judge.vocab.with_control(case.output))
        assert (n == whole) == ({call for call, _ in case.calls} == {name} and not case.content)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_without_parallel_calls_the_turn_ends_after_the_first(style: Format) -> None:
    judge = acceptance(style, control=True)
    case = _first_call(style)
    made = grammar(style, judge, _state(case), choice="required", parallel=False)
    if len(case.calls) == 1 and not case.content:
        assert judge.accepts(made, case.output)
    several = next((c for c in CASES if c.style is style and len(c.calls) > 1), None)
    if several is not None:
        auto = grammar(style, judge, _state(several), parallel=False)
        assert not judge.accepts(auto, several.output)


@pytest.mark.parametrize("case", [HERMES[0], MISTRAL[5], LLAMA3[0], QWEN_CODER[0]], ids=lambda case: case.id)
def test_single_call_leaves_nothing_but_the_end(case: Case) -> None:
    judge = acceptance(case.style, control=True)
    made = grammar(case.style, judge, parallel=False, choice="auto" if case.content else "required")
    assert not judge.may_continue(made, case.output)


@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_schema_and_tools_allow_either_and_nothing_else(style: Format, control: bool) -> None:
    judge = acceptance(style, control=control)
    head = "<|channel|>final<|message|>" if style.name == "harmony" else ""
    made = grammar(style, judge, "off", SCHEMA)
    call = style.write_calls(_history_calls()) if style.name != "harmony" else HARMONY[4].output
    assert judge.accepts(made, head + ANSWER)
    assert judge.accepts(made, call)
    assert not judge.accepts(made, f"{head}Hello")
    assert not judge.accepts(made, f'{head}{{"other": 1}}')
    only = grammar(style, judge, "off", SCHEMA, choice="none")
    assert judge.accepts(only, head + ANSWER) and not judge.accepts(only, call)


def _history_calls() -> Any:
    from localllm.chat.messages import FunctionCall, ToolCall

    return [ToolCall(FunctionCall(*PARIS), "a1b2c3d4e")]


@pytest.mark.parametrize("style", [s for s in STYLES if s.tags is not None], ids=lambda style: style.name)
@pytest.mark.parametrize("control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize(
    ("kind", "text", "good", "bad"),
    [("json_schema", SCHEMA, ANSWER, "Hello"), ("gbnf", 'root ::= "yes" | "no"', "yes", "maybe")],
)
def test_grammar_begins_after_the_reasoning(
    style: Format, control: bool, kind: str, text: str, good: str, bad: str
) -> None:
    assert style.tags is not None
    judge = acceptance(style, control=control)
    open_, close, final = style.tags.start, style.tags.end, ""
    if style.name == "harmony":
        close, final = "<|end|><|start|>assistant", "<|channel|>final<|message|>"
    for state, before in (("optional", f"{open_}Hm, {{ maybe."), ("open", "Hm.")):
        preamble = style.preamble(judge.vocab.control, state)  # type: ignore[arg-type]
        assert judge.accepts(text, f"{before}{close}{final}{good}", kind=kind, preamble=preamble)
        assert not judge.accepts(text, f"{before}{close}{final}{bad}", kind=kind, preamble=preamble)
        assert not judge.accepts(text, before, kind=kind, preamble=preamble)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_random_walks_write_calls_that_parse_and_validate(style: Format) -> None:
    nested = tool(
        "plan",
        {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}, "minItems": 1, "maxItems": 2},
            "n": {"type": "integer"},
        },
        "steps",
        **{"$defs": {"step": {"type": "object", "properties": {"k": {"enum": ["a", "b"]}}, "required": ["k"]}}},
    )
    box = toolbox("required", parallel=False, tools=[nested, WEATHER])
    judge = acceptance(style, control=True)
    made = style.grammar(box, None, judge.vocab.control, "off")
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (nested, WEATHER)}
    n_finished = 0
    for seed in range(20):
        written = _walk(judge, made, random.Random(seed))
        if written is None:
            continue
        n_finished += 1
        found = read(style.parser(box, is_thinking=False), written)
        assert found.n_complete == len(found.calls) == 1, written
        name, arguments = found.calls[0]
        jsonschema.validate(json.loads(arguments), schemas[name])
    assert n_finished >= 2


def _walk(judge: Acceptance, made: str, rng: random.Random) -> str | None:
    """Write at random what the grammar allows, in plain characters, preferring to close."""
    vocab = judge.vocab
    constraint = judge._compiler.compile("lark", made)
    written = b""
    for _ in range(600):
        if constraint.is_complete:
            return written.decode()
        logits = np.zeros(vocab.n_vocab, dtype=np.float32)
        constraint.mask_logits(logits)
        allowed = [t for t in np.flatnonzero(logits == 0).tolist() if 31 < t < 127 or t == 10 or t > 258]
        if not allowed:
            return written.decode()
        closing = [t for t in allowed if vocab.pieces[t][:1] in (b'"', b"}", b"]", b"<", b"\n")]
        token = rng.choice(closing if closing and rng.random() < 0.6 else allowed)
        constraint.accept(token)
        written += vocab.pieces[token]
    return None


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_schema_that_cannot_be_enforced_is_refused(style: Format) -> None:
    judge = acceptance(style, control=False)
    odd = tool("f", {"a": {"type": "string", "format": "made-up"}})
    with pytest.raises(InvalidGrammar):
        judge.n_allowed(style.grammar(toolbox("required", tools=[odd]), None, {}, "off"), "x")


def test_harmony_thinks_once_where_its_reasoning_is_limited() -> None:
    style = HARMONY[0].style
    judge = acceptance(style, control=True)
    shape = style.shape_grammar(judge.vocab.control, "optional")
    assert judge.accepts(shape, HARMONY[0].output) and judge.accepts(shape, HARMONY[1].output)
    assert not judge.accepts(shape, HARMONY[6].output)


def test_strings_in_tags_obey_their_bounds() -> None:
    style = QWEN_CODER[0].style
    judge = acceptance(style, control=False)
    bounded = tool("f", {"a": {"type": "string", "minLength": 2, "maxLength": 3}, "b": {"enum": ["x", "y"]}}, "a")
    made = style.grammar(toolbox("required", tools=[bounded]), None, {}, "off")

    def call(a: str, b: str) -> str:
        arguments = f"<parameter=a>\n{a}\n</parameter>\n<parameter=b>\n{b}\n</parameter>\n"
        return f"<tool_call>\n<function=f>\n{arguments}</function>\n</tool_call>"

    assert judge.accepts(made, call("ab", "x")) and judge.accepts(made, call("a\nb", "y"))
    assert not any(judge.accepts(made, call(a, b)) for a, b in (("a", "x"), ("abcd", "x"), ("ab", "z")))
