"""A remote behind the Python API: the same events as a model here, and options that its server takes, or a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import localllm
from localllm.errors import AnswerBroken, InvalidGrammar, ModelNotFound, RequestError
from localllm.llm import LLM, ChatEvent, Done, Progress, ReasoningDelta, TextDelta, ToolCallDelta, Waiting
from localllm.remotes import Remote
from tests.remotes.fixtures import lab, server
from tests.remotes.scripted import Scripted, delta, says

__all__ = ["lab", "server"]

TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def llm(lab: Remote) -> LLM:
    return localllm.load("@lab")


def test_an_answer_comes_as_from_a_model_here(llm: LLM, server: Scripted) -> None:
    with llm:
        *deltas, done = llm.chat("Hi")
    assert deltas == [TextDelta("Hel"), TextDelta("lo"), TextDelta(".")]
    assert isinstance(done, Done)
    assert (done.text, done.finish_reason, done.reasoning_tokens) == ("Hello.", "stop", 1)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.cached_tokens) == (12, 3, 4)
    assert done.timings.ttft_s > 0 and done.timings.decode_tok_s > 0
    assert server.chats[0]["messages"] == [{"role": "user", "content": "Hi"}]


def test_what_is_not_chosen_is_left_to_the_server(llm: LLM, server: Scripted) -> None:
    llm.ask("Hi")
    assert set(server.chats[0]) == {"model", "messages", "stream", "stream_options"}


def test_options_travel_under_the_names_that_the_server_has(lab: Remote, server: Scripted) -> None:
    server.serves("m", owner="vllm")
    localllm.load("@lab").ask(
        "Hi", temperature=0.5, top_k=7, repeat_penalty=1.2, seed=0, stop="x", thinking=False,
        json_schema={"type": "object"},
        tools=[TOOL], tool_choice="required", max_tokens=9, logit_bias={5: float("-inf")},
    )  # fmt: skip
    sent = server.chats[0]
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sent["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    expected = {"temperature": 0.5, "top_k": 7, "repetition_penalty": 1.2, "seed": 0, "stop": "x", "max_tokens": 9,
                "tools": [TOOL], "tool_choice": "required", "logit_bias": {"5": -100.0}}  # fmt: skip
    assert {name: sent[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("owner", "options", "name"),
    [
        ("somebody", {"top_k": 7}, "top_k"),
        ("somebody", {"thinking": True}, "thinking"),
        ("vllm", {"mirostat": 2}, "mirostat"),
        ("llamacpp", {"context_policy": "shift"}, "context_policy"),
        ("localllm", {"logprobs": 3}, "logprobs"),
    ],
)
def test_what_a_server_does_not_take_is_refused_by_name(
    lab: Remote, server: Scripted, owner: str, options: Any, name: str
) -> None:
    server.serves("m", owner=owner)
    with pytest.raises(RequestError, match=f"{name} cannot be asked of"):
        localllm.load("@lab").chat("Hi", **options)
    assert server.chats == []


def test_options_of_loading_are_refused_by_name(lab: Remote) -> None:
    with pytest.raises(RequestError, match="n_ctx is not for a remote: @lab"):
        localllm.load("@lab", n_ctx=512)
    with pytest.raises(RequestError, match="kv_type_v is not for a remote"):
        localllm.load("@lab", kv_type_v="q8_0", in_process=True)


def test_neutral_values_are_no_wishes(llm: LLM, server: Scripted) -> None:
    llm.ask("Hi", context_policy="error", cache_prompt=True, ignore_eos=False, logprobs=None, spec=None, stop=[])
    assert len(server.chats) == 1


@pytest.mark.parametrize(("options", "kind"), [({"top_p": 5}, RequestError), ({"json_schema": "{"}, InvalidGrammar)])
def test_bad_options_are_refused_here(llm: LLM, server: Scripted, options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        llm.chat("Hi", **options)
    assert server.chats == []


def test_reasoning_and_calls(llm: LLM, server: Scripted) -> None:
    begin = {"index": 0, "id": "c1", "function": {"name": "paint", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}
    server.act = lambda handler: handler.stream(
        [delta(reasoning_content="hm"), delta(tool_calls=[begin]), delta(tool_calls=[more]), delta(reason="tool_calls")]
    )
    *events, done = llm.chat("Hi", tools=[TOOL])
    assert events == [ReasoningDelta("hm"), ToolCallDelta(0, "c1", "paint", ""), ToolCallDelta(0, None, None, "{}")]
    assert isinstance(done, Done) and (done.finish_reason, done.reasoning) == ("tool_calls", "hm")
    (call,) = done.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "paint", "{}")


def test_several_completions(llm: LLM, server: Scripted) -> None:
    server.act = lambda handler: handler.stream(
        [delta(content="a"), delta(content="b", index=1), delta(reason="stop"), delta(reason="length", index=1)]
    )
    ends = [event for event in llm.chat("Hi", n=2) if isinstance(event, Done)]
    assert [(done.index, done.text, done.finish_reason) for done in ends] == [(0, "a", "stop"), (1, "b", "length")]


def test_one_of_several_completions_that_is_missing_is_an_error(llm: LLM, server: Scripted) -> None:
    server.act = says("a")
    with pytest.raises(AnswerBroken):
        list(llm.chat("Hi", n=2))


def test_a_text_is_continued(llm: LLM, server: Scripted) -> None:
    *deltas, done = llm.generate("once", max_tokens=4)
    assert deltas == [TextDelta("more")] and isinstance(done, Done) and done.text == "more"
    assert server.asked[-1][1]["prompt"] == "once"
    with pytest.raises(RequestError, match="option of conversations"):
        llm.generate("once", thinking=True)


def test_waiting_is_an_event(lab: Remote, server: Scripted) -> None:
    from localllm.llm.remote import RemoteLLM
    from localllm.remotes import RemoteClient

    server.hangs_after("Hel")
    events: list[ChatEvent] = []
    with pytest.raises(localllm.LocalLLMError, match="not answered"):
        events.extend(RemoteLLM(RemoteClient(lab, note_s=0.05)).chat("Hi"))
    assert events[0] == TextDelta("Hel") and isinstance(events[1], Waiting) and events[1].silent_s >= 0.05


def test_for_asyncio_it_is_the_same(llm: LLM) -> None:
    async def collect() -> list[ChatEvent]:
        return [event async for event in llm.achat("Hi")]

    first, *deltas, done = asyncio.run(collect())
    assert isinstance(first, Progress) and isinstance(done, Done)
    assert deltas == [TextDelta("Hel"), TextDelta("lo"), TextDelta(".")]


def test_for_asyncio_errors_are_raised_where_events_are_awaited(llm: LLM, server: Scripted) -> None:
    server.act = lambda handler: (handler.begin(), handler.send(delta(content="Hel")))[0]

    async def collect() -> list[ChatEvent]:
        return [event async for event in llm.achat("Hi")]

    with pytest.raises(AnswerBroken, match="after 3 characters"):
        asyncio.run(collect())


def test_a_cancelled_task_hangs_up(llm: LLM, server: Scripted) -> None:
    hung_up = server.talks_until_left()

    async def leave() -> None:
        async for event in llm.achat("Hi"):
            if isinstance(event, TextDelta):
                break

    asyncio.run(leave())
    assert hung_up.wait(10)


def test_what_speaks_of_tokens_is_refused_by_name(llm: LLM) -> None:
    for ask in (
        lambda: llm.tokenize("x"),
        lambda: llm.embed("x"),
        lambda: llm.rerank("x", ["y"]),
        lambda: llm.count_chat("x"),
    ):
        with pytest.raises(RequestError, match=r"not asked of a remote \(lab\)|lab"):
            ask()


def test_an_unknown_remote_is_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound, match="No remote is called 'nowhere'"):
        localllm.load("@nowhere")


def test_its_info_says_where_it_is(llm: LLM, server: Scripted) -> None:
    assert (llm.info.name, llm.info.path) == ("scripted", "@lab/scripted")
    assert server.url in llm.info.description
