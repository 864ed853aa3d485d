"""How far a download is."""

from __future__ import annotations

from localllm.cli.pull_progress import progress_text
from localllm.hub.meter import Meter, PullProgress
from localllm.hub.transfer import Patience


def test_what_was_there_counts_as_done_and_not_as_fetched() -> None:
    seen: list[PullProgress] = []
    meter = Meter(100, seen.append)
    meter.found(40)
    meter.add(60)
    assert (seen[-1].n_done_bytes, meter.n_fetched_bytes) == (100, 60)


def test_what_has_to_come_again_is_taken_back() -> None:
    seen: list[PullProgress] = []
    meter = Meter(100, seen.append)
    meter.add(60)
    meter.add(-60)
    meter.add(100)
    assert (seen[-1].n_done_bytes, meter.n_fetched_bytes) == (100, 160)


def test_time_left_follows_from_speed_and_is_unknown_without() -> None:
    assert PullProgress(50, 150, 10.0).left_s == 10.0
    assert PullProgress(50, 150, 0.0).left_s is None
    assert PullProgress(50, None, 10.0).left_s is None


def test_progress_in_words() -> None:
    assert (
        progress_text(PullProgress(1 << 20, 4 << 20, 1 << 20)) == "1.00 MiB of 4.00 MiB (25%) · 1.00 MiB/s · 3 s left"
    )
    assert progress_text(PullProgress(1 << 20, None, 0.0)) == "1.00 MiB"


def test_waits_double_up_to_a_bound_and_progress_is_not_waited_after() -> None:
    patience = Patience(n_tries=9, first_wait_s=1, max_wait_s=5)
    assert [patience.wait_s(n_failed) for n_failed in (0, 1, 2, 3, 4)] == [0, 1, 2, 4, 5]
