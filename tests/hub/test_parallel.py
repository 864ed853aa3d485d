"""A few jobs at once."""

from __future__ import annotations

import threading

import pytest

from localllm.hub.parallel import run_all
from localllm.hub.transfer import Stopped


def test_all_jobs_are_done() -> None:
    done: list[int] = []
    run_all([lambda index=index: done.append(index) for index in range(10)], 3, threading.Event())
    assert sorted(done) == list(range(10))


def test_the_first_failure_stops_the_others_and_is_raised() -> None:
    stop, done = threading.Event(), []

    def fail() -> None:
        raise ValueError("first")

    def wait() -> None:
        stop.wait(30)
        done.append("waited")

    with pytest.raises(ValueError, match="first"):
        run_all([wait, fail, *[lambda: done.append("late")] * 5], 2, stop)
    assert done == ["waited"]


def test_no_jobs_are_no_work() -> None:
    run_all([], 3, threading.Event())


def test_stopping_from_outside_ends_the_jobs_and_is_no_success() -> None:
    stop, is_running = threading.Event(), threading.Event()

    def wait() -> None:
        is_running.set()
        stop.wait(30)

    threading.Thread(target=lambda: (is_running.wait(30), stop.set()), daemon=True).start()
    with pytest.raises(Stopped):
        run_all([wait, wait, wait], 1, stop)
