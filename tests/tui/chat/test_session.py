"""A conversation with its model: every way that an answer begins, goes on and ends, and what is kept of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.config import load_settings
from localllm.conversations import ConversationStore, Node
from localllm.errors import LocalLLMError, ModelNotFound, RequestError
from localllm.llm import LLM
from tests.scripted_backend import Script, crash
from tests.tui.driving import ScriptedModels
from tui.chat.events import Added, Began, BranchShown, Changed, Cut, Finished, Measured, PhaseChanged, Refused, Streamed
from tui.chat.session import ChatSession, title_of
from tui.engines import Engines


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = ConversationStore.open(tmp_path / "conversations.db")
    yield store
    store.close()


@pytest.fixture
async def engines(models: ScriptedModels) -> AsyncIterator[Engines]:
    engines = Engines(lambda ref: None, models, has_room=lambda ref: True)
    yield engines
    await engines.close_all()


class Room:
    """A session, and all that it said."""

    def __init__(self, store: ConversationStore, engines: Engines, **fields: Any) -> None:
        self.store = store
        self.events: list[Any] = []
        settings = load_settings({"seed": 1})
        self.session = ChatSession(store, engines, lambda: settings, store.create(**fields), "m", self.events.append)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def ask(self, text: str) -> Node:
        """Ask, and return the answer when it is complete."""
        await self.session.send(text)
        await self.session.wait()
        return self.session.nodes[-1]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)

    def kept(self) -> list[Node]:
        return list(self.store.path(self.session.conversation.id))


@pytest.fixture
def room(store: ConversationStore, engines: Engines) -> Room:
    return Room(store, engines)


async def test_a_question_and_its_answer_are_kept(room: Room, models: ScriptedModels) -> None:
    models.say("Hello, you.", n_ctx=4096)
    answer = await room.ask("Hi!")
    assert [(node.role, node.text, node.state) for node in room.kept()] == [
        ("user", "Hi!", "done"),
        ("assistant", "Hello, you.", "done"),
    ]
    assert answer.model == "m"
    assert "".join(event.text for event in room.of(Streamed)) == "Hello, you."
    assert [type(event) for event in room.events if isinstance(event, Added | Began | Finished)] == [
        Added,
        Began,
        Finished,
    ]
    phases = [event.phase for event in room.of(PhaseChanged)]
    assert phases == ["loading", "reading", "writing", "idle"]


async def test_facts_are_kept_with_the_answer(room: Room, models: ScriptedModels) -> None:
    models.say(Script("Hello!", n_evicted=3))
    answer = await room.ask("Hi!")
    assert answer.facts["usage"]["completion_tokens"] == 6 and answer.facts["usage"]["evicted_tokens"] == 3
    assert answer.facts["timings"]["decode_tok_s"] == 152.0 and answer.facts["n_ctx"] == 4096
    figures = room.of(Measured)[-1].figures
    assert figures.tok_s == 152.0 and figures.n_evicted == 3 and figures.n_ctx == 4096 and figures.first_s == 0.08


async def test_the_model_is_told_the_whole_conversation(room: Room, models: ScriptedModels) -> None:
    await room.session.change(system="Be brief.")
    await room.ask("One")
    await room.ask("Two")
    prompt = models.backends["m"].calls[-1].prompt_text
    assert prompt == "<system>Be brief.<user>One<assistant>Hello!<user>Two<assistant>"


async def test_the_first_question_is_the_title(room: Room) -> None:
    await room.ask("\n  Why is the sky blue?\nTell me all.")
    assert room.session.conversation.title == "Why is the sky blue?"
    await room.ask("And the sea?")
    assert room.store.conversation(room.session.conversation.id).title == "Why is the sky blue?"
    assert len(room.of(Changed)) == 1


def test_titles_are_cut_between_words() -> None:
    assert title_of("word " * 30) == " ".join(["word"] * 12) + "…"
    assert len(title_of("x" * 100)) <= 60
    assert title_of("\n\n") == ""


async def test_a_stopped_answer_is_kept_as_far_as_it_came(room: Room, models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    await room.session.send("Sing")
    await room.until(lambda: len(room.of(Streamed)) > 5)
    await room.session.stop()
    answer = room.kept()[-1]
    assert answer.state == "stopped" and answer.text.startswith("la la") and not room.session.is_busy
    assert answer.facts["usage"]["completion_tokens"] >= 5 and answer.facts["timings"]["decode_tok_s"] > 0
    assert models.backends["m"].calls[0].cancelled.is_set()


async def test_stopping_while_the_model_loads_keeps_the_question(
    store: ConversationStore, models: ScriptedModels
) -> None:
    may_load = threading.Event()

    def slow(ref: str, **options: Any) -> LLM:
        assert may_load.wait(5)
        return models(ref, **options)

    room = Room(store, Engines(lambda ref: None, slow))
    await room.session.send("Hi")
    await room.until(lambda: room.of(Began))
    await room.session.stop()
    may_load.set()
    assert [(node.text, node.state) for node in room.kept()] == [("Hi", "done"), ("", "stopped")]
    await room.session.regenerate()
    await room.session.wait()
    assert [(node.text, node.n_siblings) for node in room.kept()] == [("Hi", 1), ("Hello!", 1)]


async def test_one_question_at_a_time(room: Room, models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    await room.session.send("Sing")
    with pytest.raises(RequestError, match="still answering"):
        await room.session.send("And dance")
    with pytest.raises(RequestError, match="still answering"):
        await room.session.regenerate()
    await room.session.stop()
    assert [node.text for node in room.kept() if node.role == "user"] == ["Sing"]


async def test_several_conversations_answer_at_once(
    store: ConversationStore, engines: Engines, models: ScriptedModels
) -> None:
    models.say(Script("la ", endless=True))
    rooms = [Room(store, engines), Room(store, engines)]
    for room in rooms:
        await room.session.send("Sing")
    for room in rooms:
        await room.until(lambda room=room: len(room.of(Streamed)) > 3)
    for room in rooms:
        await room.session.stop()
        assert room.kept()[-1].text.startswith("la la")
    assert models.loads == ["m"]


async def test_regenerating_makes_a_sibling(room: Room, models: ScriptedModels) -> None:
    models.say("First", "Second")
    await room.ask("Hi")
    await room.session.regenerate()
    await room.session.wait()
    answer = room.kept()[-1]
    assert (answer.text, answer.n_siblings, answer.sibling_index) == ("Second", 2, 1)
    assert room.of(Cut)[-1].after_id == room.kept()[0].id


async def test_an_answer_in_the_middle_is_given_again_on_a_branch(room: Room, models: ScriptedModels) -> None:
    models.say("A", "B", "C")
    first = await room.ask("One")
    await room.ask("Two")
    await room.session.regenerate(first.id)
    await room.session.wait()
    assert [node.text for node in room.kept()] == ["One", "C"]
    await room.session.switch(room.kept()[-1].id, -1)
    assert [node.text for node in room.kept()] == ["One", "A", "Two", "B"]
    assert [node.text for node in room.of(BranchShown)[-1].nodes] == ["One", "A", "Two", "B"]
    await room.session.switch(room.kept()[1].id, -1)
    assert [node.text for node in room.kept()] == ["One", "A", "Two", "B"], "there is no branch further left"


async def test_an_edited_question_is_a_sibling_with_an_answer_of_its_own(room: Room, models: ScriptedModels) -> None:
    models.say("A", "B")
    await room.ask("One")
    await room.session.edit(room.kept()[0].id, "Two")
    await room.session.wait()
    question, answer = room.kept()
    assert (question.text, question.n_siblings, answer.text) == ("Two", 2, "B")
    assert models.backends["m"].calls[-1].prompt_text == "<user>Two<assistant>"


async def test_an_edited_answer_is_not_answered(room: Room, models: ScriptedModels) -> None:
    await room.ask("One")
    await room.session.edit(room.kept()[1].id, "Mine")
    await room.session.wait()
    assert [node.text for node in room.kept()] == ["One", "Mine"] and len(models.backends["m"].calls) == 1


async def test_going_on_with_an_answer_that_reached_its_limit(room: Room, models: ScriptedModels) -> None:
    models.say("abcdef", "ghi")
    await room.session.change(options={"max_tokens": 3})
    cut = await room.ask("Say the alphabet")
    assert (cut.text, cut.state) == ("abc", "length")
    await room.session.resume()
    await room.session.wait()
    whole = room.kept()[-1]
    assert (whole.id, whole.text, whole.state) == (cut.id, "abcghi", "done")
    assert models.backends["m"].calls[-1].prompt_text == "<user>Say the alphabet<assistant>abc"
    assert [event.node.id for event in room.of(Began)] == [cut.id, cut.id]


async def test_going_on_where_nothing_was_said_asks_again(room: Room, models: ScriptedModels) -> None:
    models.errors["m"] = ModelNotFound("No model is called 'm'.", hint="Fetch it.")
    failed = await room.ask("Hi")
    assert failed.state == "failed" and failed.error == "No model is called 'm'. Fetch it."
    del models.errors["m"]
    await room.session.resume()
    await room.session.wait()
    assert [(node.text, node.n_siblings) for node in room.kept()] == [("Hi", 1), ("Hello!", 1)]


async def test_a_crash_keeps_the_answer_and_going_on_loads_again(room: Room, models: ScriptedModels) -> None:
    models.say(crash("Once upon"))
    partial = await room.ask("Tell a tale")
    assert (partial.text, partial.state) == ("Once upon", "interrupted")
    assert partial.error is not None and "worker process ended" in partial.error
    models.backends["m"].closed = True
    models.say(" a time.")
    await room.session.resume()
    await room.session.wait()
    assert room.kept()[-1].text == "Once upon a time." and room.kept()[-1].state == "done"
    assert room.kept()[-1].error is None and models.loads == ["m", "m"]


async def test_a_question_that_is_too_long_is_taken_back(room: Room, models: ScriptedModels) -> None:
    models.say("Yes", n_ctx=64)
    await room.ask("Hi")
    await room.session.send("x" * 100)
    await room.session.wait()
    assert [node.text for node in room.kept()] == ["Hi", "Yes"]
    refused = room.of(Refused)[-1]
    assert refused.text == "x" * 100 and "context" in refused.error.message
    await room.ask("Short")
    assert [node.text for node in room.kept()] == ["Hi", "Yes", "Short", "Yes"] and room.kept()[2].n_siblings == 1


async def test_an_end_of_the_app_interrupts(room: Room, models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    await room.session.send("Sing")
    await room.until(lambda: len(room.of(Streamed)) > 3)
    await room.session.stop("interrupted")
    assert room.kept()[-1].state == "interrupted"


async def test_what_fails_unforeseen_is_kept_as_failed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("tui.chat.session.answer_options", broken)
    answer = await room.ask("Hi")
    assert answer.state == "failed" and answer.error is not None and "ZeroDivisionError" in answer.error


async def test_another_model_answers_from_now_on(room: Room, models: ScriptedModels) -> None:
    await room.ask("Hi")
    await room.session.use("other")
    answer = await room.ask("Hi again")
    assert answer.model == "other" and room.store.conversation(room.session.conversation.id).model == "other"


async def test_without_a_model_the_question_is_kept(store: ConversationStore, engines: Engines) -> None:
    room = Room(store, engines)
    room.session.ref = None
    answer = await room.ask("Hi")
    assert answer.state == "failed" and answer.error is not None and "Ctrl+O" in answer.error


async def test_the_options_of_the_chat_go_before_the_settings(room: Room, models: ScriptedModels) -> None:
    await room.session.change(options={"temperature": 0.0, "max_tokens": 2})
    answer = await room.ask("Hi")
    assert answer.text == "He" and answer.state == "length"
    sampling = models.backends["m"].calls[0].request.sampling
    assert sampling.temperature == 0.0 and sampling.seed == 1


class Tools:
    """Tools that answer what they are told to."""

    def __init__(self, *results: str | Exception) -> None:
        self.results = list(results)
        self.calls: list[ToolCall] = []
        self.hangs = False
        self.is_prepared = False

    async def prepare(self) -> None:
        self.is_prepared = True

    def specs(self) -> Sequence[Mapping[str, Any]]:
        assert self.is_prepared
        parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
        return [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]

    async def run(self, call: ToolCall) -> str:
        self.calls.append(call)
        if self.hangs:
            await asyncio.sleep(60)
        result = self.results.pop(0) if self.results else "sunny"
        if isinstance(result, Exception):
            raise result
        return result


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


async def test_a_tool_is_run_and_its_result_answered(room: Room, models: ScriptedModels) -> None:
    models.say(CALL, "It is sunny.")
    room.session.tools = tools = Tools("sunny")
    await room.ask("How is the weather in Rome?")
    kept = room.kept()
    assert [(node.role, node.text) for node in kept[2:]] == [("tool", "sunny"), ("assistant", "It is sunny.")]
    assert kept[1].tool_calls == tuple(tools.calls) and kept[2].tool_call_id == tools.calls[0].id
    assert tools.calls[0].function == FunctionCall("weather", '{"city": "Rome"}')
    assert "tools" in [event.phase for event in room.of(PhaseChanged)]


async def test_a_tool_that_fails_is_told_of(room: Room, models: ScriptedModels) -> None:
    models.say(CALL, "I do not know.")
    room.session.tools = Tools(LocalLLMError("the server is gone"))
    await room.ask("How is the weather in Rome?")
    assert "the server is gone" in room.kept()[2].text and room.kept()[-1].text == "I do not know."


async def test_rounds_of_tools_are_bounded(room: Room, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.chat.session.MAX_ROUNDS", 2)
    models.say(CALL)
    room.session.tools = tools = Tools()
    await room.ask("How is the weather in Rome?")
    assert len(tools.calls) == 2 and not room.session.is_busy


async def test_stopping_a_tool_leaves_no_call_without_a_result(room: Room, models: ScriptedModels) -> None:
    models.say(CALL, "Never mind.")
    room.session.tools = tools = Tools()
    tools.hangs = True
    await room.session.send("How is the weather in Rome?")
    await room.until(lambda: tools.calls)
    await room.session.stop()
    assert room.kept()[-1].role == "tool" and "stopped" in room.kept()[-1].text
    tools.hangs = False
    await room.session.resume()
    await room.session.wait()
    assert room.kept()[-1].text == "Never mind."
