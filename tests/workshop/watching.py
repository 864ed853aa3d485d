"""A watcher that hears of everything and may end the work."""

from __future__ import annotations

from localllm.calibrate import Progress
from localllm.gguf import GGUFHeader
from localllm.gradients import GradientProgress
from localllm.quantize import Mix
from localllm.quantize.pipeline import Progress as QuantizeProgress


class Watcher:
    """Hears of everything; ends the work where it is told to."""

    def __init__(self, *, stop_after: int | None = None, stop_at: str | None = None) -> None:
        self.mix: Mix | None = None
        self.types: list[str] = []
        self.n_read = 0
        self.measured: set[str] = set()
        self.reasons: list[str] = []
        """Why something is not folded."""
        self.stop_after = stop_after
        self.stop_at = stop_at
        """What is measured when Ctrl-C is pressed."""

    def loading(self, share: float) -> None: ...

    def drawing(self, n_done: int, n_total: int) -> None: ...

    def differentiating(self, progress: GradientProgress) -> None: ...

    def reading(self, progress: Progress) -> None:
        self.n_read += 1

    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None:
        self.mix = mix
        self.types.append(mix.file_type.name)

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        self.measured.add(what)
        if self.stop_at is not None and self.stop_at in what:
            raise KeyboardInterrupt

    def not_folded(self, reason: str) -> None:
        self.reasons.append(reason)

    def quantizing(self, progress: QuantizeProgress) -> None:
        if self.stop_after is not None and progress.n_done >= self.stop_after:
            raise KeyboardInterrupt
