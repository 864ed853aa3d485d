"""Answers that may take only so long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from localllm.llm.events import ChatEvent, Done, Progress, TextDelta
from localllm.server.answering import Events
from localllm.server.time_limit import within
from tests.server.events import choice, done


def play(pieces: Sequence[str], limit_s: float, pause_s: float = 0.02) -> tuple[list[ChatEvent], bool]:
    """Return what comes through of a model that says `pieces`, and whether the model was stopped."""
    stopped = False

    async def events() -> Events:
        nonlocal stopped
        try:
            yield Progress(10, 10, 4)
            for piece in pieces:
                await asyncio.sleep(pause_s)
                yield TextDelta(piece, logprobs=(choice(piece),))
            yield done("".join(pieces))
        except GeneratorExit:
            stopped = True
            raise

    async def run() -> list[ChatEvent]:
        return [event async for event in within(events(), limit_s)]

    return asyncio.run(run()), stopped


def test_an_answer_in_time_is_left_alone() -> None:
    found, stopped = play(["a", "\n"], limit_s=60)
    assert found[-1] == done("a\n") and not stopped


def test_an_answer_that_takes_too_long_ends_and_is_counted() -> None:
    found, stopped = play(["a", "\n", *"b" * 500], limit_s=0.1)
    end = found[-1]
    assert isinstance(end, Done) and stopped
    assert (end.finish_reason, end.cause, end.text) == ("length", "max_tokens", "a\n" + "b" * (len(found) - 4))
    assert end.usage.completion_tokens == len(end.text) and end.usage.prompt_tokens == 10
    assert 0.1 <= end.timings.decode_s < 5


def test_its_first_line_is_whole_however_long_it_takes() -> None:
    found, _ = play([*"abcdefgh", "\n", "never"], limit_s=0.0)
    end = found[-1]
    assert isinstance(end, Done) and end.text == "abcdefgh\n"
