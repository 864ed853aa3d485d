"""`achat` and `agenerate`: the same answers, without blocking the loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from localllm.errors import ContextLengthExceeded, RequestError, WorkerCrashed
from localllm.llm import LLM, Done, TextDelta
from tests.scripted_backend import Script, ScriptedBackend, crash


async def answer(llm: LLM, question: str) -> str:
    async for event in llm.achat(question):
        if isinstance(event, Done):
            return event.text
    raise AssertionError("There was no end.")


def test_async_answers_match_the_sync_ones() -> None:
    async def run() -> list[str]:
        llm = LLM(ScriptedBackend("Grüße!"))
        events = [event async for event in llm.agenerate("Hello")]
        return [event.text for event in events if isinstance(event, TextDelta)]

    assert asyncio.run(run()) == list("Grüße!")


def test_many_answers_at_once_do_not_mix() -> None:
    scripts = [f"answer {index}" for index in range(8)]

    async def run() -> list[str]:
        llm = LLM(ScriptedBackend(*scripts))
        return await asyncio.gather(*(answer(llm, "Hello") for _ in scripts))

    assert sorted(asyncio.run(run())) == scripts


def test_loop_keeps_turning_while_an_answer_is_slow() -> None:
    async def run() -> float:
        task = asyncio.create_task(answer(LLM(ScriptedBackend(Script("slow", delay_s=0.05))), "Hello"))
        longest_s = 0.0
        while not task.done():
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.perf_counter() - start)
        return longest_s

    assert asyncio.run(run()) < 0.15


def test_submit_that_blocks_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend()
    real = backend.submit

    def slow_submit(*args: object) -> int:
        time.sleep(0.3)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "submit", slow_submit)

    async def run() -> int:
        task = asyncio.create_task(answer(LLM(backend), "Hello"))
        n_turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            n_turns += 1
        return n_turns

    assert asyncio.run(run()) > 5


def test_cancelling_the_task_cancels_the_request() -> None:
    backend = ScriptedBackend(Script("word ", endless=True))

    async def run() -> None:
        task = asyncio.create_task(answer(LLM(backend), "Hello"))
        while not backend.calls:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert backend.calls[0].cancelled.wait(5)


def test_cancelling_during_submit_cancels_what_it_submits(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend(Script("word ", endless=True))
    real = backend.submit

    def slow_submit(*args: object) -> int:
        time.sleep(0.1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "submit", slow_submit)

    async def run() -> None:
        task = asyncio.create_task(answer(LLM(backend), "Hello"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.2)

    asyncio.run(run())
    assert all(call.cancelled.wait(5) for call in backend.calls)


def test_break_cancels_the_request() -> None:
    backend = ScriptedBackend(Script("word ", endless=True))

    async def run() -> None:
        async for event in LLM(backend).achat("Hello"):
            if isinstance(event, TextDelta):
                break
        await asyncio.sleep(0.02)

    asyncio.run(run())
    assert backend.calls[0].cancelled.wait(5)


def test_errors_are_raised_to_the_consumer() -> None:
    with pytest.raises(WorkerCrashed):
        asyncio.run(answer(LLM(ScriptedBackend(crash())), "Hello"))
    with pytest.raises(ContextLengthExceeded):
        asyncio.run(answer(LLM(ScriptedBackend(n_ctx=4)), "Hello"))
    with pytest.raises(RequestError, match="top_p"):
        LLM(ScriptedBackend()).achat("Hello", top_p=0)


def test_request_left_behind_by_a_closed_loop_ends_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    backend = ScriptedBackend(Script("word ", endless=True))

    async def run() -> None:
        stream = LLM(backend).achat("Hello")
        await anext(stream)

    asyncio.run(run())
    for thread in backend.threads:
        thread.join(5)
    assert "Traceback" not in capfd.readouterr().err
