"""A download, on stderr: a bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import duration, size

if TYPE_CHECKING:
    from localllm.hub.meter import PullProgress


class ProgressView(Protocol):
    """Shows how far a download is. Called on any thread, by one at a time."""

    def show(self, progress: PullProgress) -> None:
        """Show it now."""

    def close(self) -> None:
        """Take it away."""


def progress_view() -> ProgressView:
    """Return the view that suits stderr."""
    return _Bar() if sys.stderr is not None and sys.stderr.isatty() else _Lines()


def progress_text(progress: PullProgress) -> str:
    """Return one line: `1.20 GiB of 4.00 GiB (30%) · 11.40 MiB/s · 4 min left`."""
    parts = [size(progress.n_done_bytes)]
    if progress.n_total_bytes:
        share = progress.n_done_bytes / progress.n_total_bytes
        parts[0] += f" of {size(progress.n_total_bytes)} ({share:.0%})"
    if progress.bytes_s > 0:
        parts.append(f"{size(int(progress.bytes_s))}/s")
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return " · ".join(parts)


class _Lines:
    def __init__(self) -> None:
        self._status = StatusLine(LOG_EVERY_S)

    def show(self, progress: PullProgress) -> None:
        self._status.show(f"pulling {progress_text(progress)}")

    def close(self) -> None:
        self._status.clear()


class _Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            BarColumn(30), TextColumn("{task.description}"), console=Console(stderr=True), transient=True
        )
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def show(self, progress: PullProgress) -> None:
        self._bar.update(
            self._task,
            completed=progress.n_done_bytes,
            total=progress.n_total_bytes,
            description=progress_text(progress),
        )

    def close(self) -> None:
        self._bar.stop()
