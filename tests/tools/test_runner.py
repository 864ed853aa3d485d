"""From a model's wish to a result: who is asked, what is remembered, what the model is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.chat.formats.tools import parse_toolbox
from localllm.chat.messages import FunctionCall, ToolCall
from localllm.tools import Approvals, PendingCall, ToolRunner, Verdict
from localllm.tools.names import model_names
from localllm.tools.results import bounded
from localllm.tools.schemas import honoured
from tests.tools.conftest import MakeServers

OBJECT: dict[str, Any] = {"type": "object"}


class Asked:
    """A user who answers as they were told to."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.calls: list[PendingCall] = []

    async def __call__(self, call: PendingCall) -> Verdict:
        self.calls.append(call)
        return self.verdicts.pop(0)


async def started(make_servers: MakeServers, *verdicts: Verdict) -> tuple[ToolRunner, Asked]:
    asked = Asked(*verdicts)
    runner = ToolRunner(make_servers(), asked)
    await runner.prepare()
    return runner, asked


async def test_once_is_asked_each_time(make_servers: MakeServers) -> None:
    runner, asked = await started(make_servers, Verdict("once"), Verdict("refuse", "not now"))
    assert (await runner.result("tests__add", '{"a": 1, "b": 2}')).text == "3"
    refused = await runner.result("tests__add", '{"a": 1, "b": 2}')
    assert refused.is_error and refused.text.endswith("so it was not made. They say: not now")
    assert asked.calls[0].arguments == {"a": 1, "b": 2}
    assert asked.calls[0].named.tool.is_read_only is True


@pytest.mark.parametrize(("choice", "is_error"), [("always", False), ("never", True)])
async def test_always_and_never_are_asked_once(make_servers: MakeServers, choice: Any, is_error: bool) -> None:
    runner, asked = await started(make_servers, Verdict(choice))
    for _ in range(2):
        assert (await runner.result("tests__add", '{"a": 1, "b": 2}')).is_error is is_error
    assert len(asked.calls) == 1
    runner.approvals.forget("tests__add")
    assert runner.approvals.standing("tests__add") is None


async def test_what_a_model_gets_wrong_is_never_asked(make_servers: MakeServers) -> None:
    runner, asked = await started(make_servers)
    for name, arguments, words in [
        ("nothing", "{}", "no tool"),
        ("tests__add", "{", "not JSON"),
        ("tests__add", "[1]", "must be a JSON object"),
        ("tests__add", "[" * 100_000, "not JSON"),
    ]:
        result = await runner.result(name, arguments)
        assert result.is_error and words in result.text
    assert asked.calls == []


async def test_a_tool_that_is_off_is_not_told_of_and_not_run(make_servers: MakeServers) -> None:
    runner, _ = await started(make_servers)
    assert "tests__add" in [spec["function"]["name"] for spec in runner.specs()]
    runner.approvals.switch("tests__add", on=False)
    assert "tests__add" not in [spec["function"]["name"] for spec in runner.specs()]
    assert (await runner.result("tests__add", "{}")).is_error
    runner.approvals.switch("tests__add", on=True)
    assert "tests__add" in [spec["function"]["name"] for spec in runner.specs()]


async def test_a_server_that_dies_is_an_answer(make_servers: MakeServers) -> None:
    runner, _ = await started(make_servers, Verdict("once"))
    result = await runner.result("tests__die", "")
    assert (result.text, result.is_error) == ("tests ended while die ran.", True)


async def test_a_call_of_a_model_gets_a_text_that_says_what_failed(make_servers: MakeServers) -> None:
    runner, _ = await started(make_servers, Verdict("once"))
    assert await runner.run(ToolCall(FunctionCall("tests__add", '{"a": 1, "b": 2}'))) == "3"
    assert await runner.run(ToolCall(FunctionCall("nothing", "{}"))) == "Error: There is no tool 'nothing'."


async def test_all_specs_are_tools_that_our_grammar_takes(make_servers: MakeServers) -> None:
    runner, _ = await started(make_servers)
    box = parse_toolbox(runner.specs())
    assert box is not None and len(box.tools) == len(runner.servers.tools) > 5


def test_approvals_of_one_chat_are_not_anothers() -> None:
    ours, theirs = Approvals(), Approvals()
    ours.remember("a", Verdict("always"))
    assert ours.standing("a") and not theirs.standing("a")


def test_names_stay_apart() -> None:
    pairs = [("a b", "c"), ("a_b", "c"), ("a", "b" * 90), ("a", "b" * 91)]
    names = model_names(pairs)
    assert names["a b", "c"] == "a_b__c"
    assert len(set(names.values())) == 4


@given(st.lists(st.tuples(st.text(), st.text()), unique=True, max_size=8))
def test_names_are_legal_whatever_servers_say(pairs: list[tuple[str, str]]) -> None:
    names = model_names(pairs)
    assert len(set(names.values())) == len(pairs)
    assert (
        parse_toolbox([{"type": "function", "function": {"name": name}} for name in names.values()] or None)
        or not pairs
    )
    assert all(len(name) <= 64 for name in names.values())


@pytest.mark.parametrize(
    ("schema", "kept", "is_simplified"),
    [
        (OBJECT | {"properties": {"a": {"type": "string"}}}, None, False),
        (
            OBJECT | {"properties": {"a": {"type": "string", "pattern": "(?=x)"}}, "required": ["a"]},
            OBJECT | {"properties": {"a": {"type": "string"}}, "required": ["a"]},
            True,
        ),
        (
            OBJECT | {"properties": {"a": {"type": "array", "items": {"not": {}, "type": "integer"}}}},
            OBJECT | {"properties": {"a": {"type": "array", "items": {"type": "integer"}}}},
            True,
        ),
        (OBJECT | {"properties": {"a": {"$ref": "http://x/y"}}}, OBJECT | {"properties": {"a": {}}}, True),
        (OBJECT | {"properties": {"a": {"type": "colour"}}}, OBJECT, True),
        ({"type": "string"}, OBJECT, True),
    ],
)
def test_schemas_are_enforced_in_full_or_made_simpler(
    schema: dict[str, Any], kept: dict[str, Any] | None, is_simplified: bool
) -> None:
    assert honoured(schema) == (kept or schema, is_simplified)


def test_a_schema_without_end_is_any_object() -> None:
    schema: dict[str, Any] = dict(OBJECT)
    for _ in range(5000):
        schema = OBJECT | {"properties": {"a": schema}}
    found, is_simplified = honoured(schema)
    assert is_simplified and len(json.dumps(found)) < 10_000


def test_a_short_text_is_not_cut() -> None:
    assert bounded("abc", 3) == "abc"
    assert bounded("a" * 4 + "b" * 4, 4).splitlines()[0] == "aaa"
