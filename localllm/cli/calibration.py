"""What `localllm imatrix` and `localllm quantize` share: how much memory, and how far the calibration is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.cli.status import StatusLine
from localllm.cli.tables import duration
from localllm.errors import RequestError
from localllm.setting_values import parse_size

if TYPE_CHECKING:
    from localllm.calibrate import Progress
    from localllm.gradients import GradientProgress

N_KL_CHUNKS = 24
"""Chunks that are read for the gradients of the predictions, unless told."""


def memory_bytes(text: str | None) -> int | None:
    """Return what --memory says in bytes; None for what is usual.

    Raises:
        RequestError: it is no size.
    """
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise RequestError(f"--memory is {text!r}; it must be {error}.", hint="Such as --memory 8GB.") from error


class CalibrationStatus:
    """Shows a calibration's progress on a status line (a `CalibrationWatcher`)."""

    def __init__(self, status: StatusLine) -> None:
        self.status = status

    def loading(self, share: float) -> None:
        """Show how much of the model is loaded."""
        self.status.loading(share)

    def drawing(self, n_done: int, n_total: int) -> None:
        """Show how much text the model has drawn."""
        self.status.show(f"drawing text {n_done} of {n_total}")

    def reading(self, progress: Progress) -> None:
        """Show how much text has been read."""
        self.status.show(
            f"calibrating: chunk {progress.n_done} of {progress.n_total} · {duration(progress.left_s)} left"
        )

    def differentiating(self, progress: GradientProgress) -> None:
        """Show how far the gradients are."""
        way = "back" if progress.is_backward else "forward"
        self.status.show(
            f"gradients: {progress.share:.0%} · {way}, layer {progress.layer} · {duration(progress.left_s)} left"
        )
