"""Other work on the engine's thread: it has its turn between steps, and no longer than the streams can wait."""

from __future__ import annotations

import threading
import time

import pytest

from localllm.engine.cost import IDLE_VISIT_S, MAX_STEP_S
from localllm.engine.visits import VisitorThread
from tests.engine.driving import EngineFactory, generate, prompt_of, submit


class Guest:
    """A visitor with so many pieces of work."""

    def __init__(self, n_pieces: int = 0) -> None:
        self.n_pieces = n_pieces
        self.budgets: list[float] = []
        self.threads: set[str] = set()
        self.done = threading.Event()
        self.closed = threading.Event()

    @property
    def has_work(self) -> bool:
        return self.n_pieces > 0

    def visit(self, budget_s: float) -> None:
        self.budgets.append(budget_s)
        self.threads.add(threading.current_thread().name)
        self.n_pieces -= 1
        if self.n_pieces <= 0:
            self.done.set()

    def close(self) -> None:
        self.closed.set()


def test_visitor_of_an_idle_engine_works_when_it_is_woken(make_engine: EngineFactory) -> None:
    guest = Guest()
    engine = make_engine(visitor=guest)
    guest.n_pieces = 3
    engine.wake()
    assert guest.done.wait(30)
    assert guest.budgets == [IDLE_VISIT_S] * 3
    assert guest.threads == {"localllm-engine"}


def test_visitor_and_streams_take_turns_within_a_steps_time(make_engine: EngineFactory) -> None:
    guest = Guest()
    engine = make_engine(visitor=guest)
    prompt = prompt_of(1, 20)
    alone = generate(engine, prompt, max_tokens=200, ignore_eos=True).tokens
    _, stream = submit(engine, prompt, max_tokens=200, ignore_eos=True)
    stream.wait_for_token(20)
    guest.n_pieces = 50
    engine.wake()
    assert stream.wait().tokens == alone
    assert guest.done.wait(30)
    beside = guest.budgets[:-1]
    assert len(beside) >= 20
    assert all(0 < budget <= max(MAX_STEP_S, IDLE_VISIT_S) for budget in beside)


def test_visits_beside_streams_are_as_short_as_a_chunk_of_a_prompt(make_engine: EngineFactory) -> None:
    from localllm.engine.cost import StepCost

    cost = StepCost()
    for _ in range(20):
        cost.observe(2, 0, 0.02)
    assert cost.visit_s(2) == pytest.approx(cost.step_target_s(2) - 0.02)
    assert cost.visit_s(0) == IDLE_VISIT_S


def test_after_step_follows_each_visit(make_engine: EngineFactory) -> None:
    guest, flushed = Guest(), threading.Event()

    def after_step() -> None:
        if guest.done.is_set():
            flushed.set()

    engine = make_engine(visitor=guest, after_step=after_step)
    guest.n_pieces = 1
    engine.wake()
    assert flushed.wait(30)


def test_visitor_is_closed_with_the_engine(make_engine: EngineFactory) -> None:
    guest = Guest()
    engine = make_engine(visitor=guest)
    assert generate(engine, prompt_of(1, 5), max_tokens=3, ignore_eos=True).finish.reason == "length"
    engine.close()
    assert guest.closed.is_set()


def test_thread_alone_works_until_it_is_closed() -> None:
    guest = Guest()
    n_flushes = 0

    def count() -> None:
        nonlocal n_flushes
        n_flushes += 1

    thread = VisitorThread(guest, count)
    for _ in range(3):
        guest.done.clear()
        guest.n_pieces = 2
        thread.wake()
        assert guest.done.wait(30)
    assert thread.is_running
    thread.close()
    thread.close()
    assert guest.closed.is_set() and not thread.is_running
    assert len(guest.budgets) == 6 and n_flushes == 7


def test_failing_visitor_is_closed_and_the_thread_ends() -> None:
    class Bad(Guest):
        def visit(self, budget_s: float) -> None:
            raise ZeroDivisionError

    guest = Bad(1)
    thread = VisitorThread(guest)
    thread.wake()
    assert guest.closed.wait(30)
    deadline = time.monotonic() + 10
    while thread.is_running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not thread.is_running
    thread.close()
