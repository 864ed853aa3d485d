"""What verbs that quantize say meanwhile: the progress on the status line, and notices about the types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from localllm.cli.calibration import CalibrationStatus
from localllm.cli.screen import notice
from localllm.cli.tables import duration

if TYPE_CHECKING:
    from localllm.convert import Conversion
    from localllm.gguf import GGUFHeader
    from localllm.quantize import Mix, Progress


class QuantizingStatus(CalibrationStatus):
    """Shows the progress on the status line, and keeps what was planned last (a `QuantizeWatcher` and a
    `SourceWatcher`)."""

    mix: Mix

    def converting(self, n_done: int, n_total: int) -> None:
        """Show how much of a checkpoint is converted."""
        self.status.show(f"converting {n_done / n_total:.0%}")

    def converted(self, made: Conversion) -> None:
        """Say what is to be known of what came of it."""
        self.status.clear()
        for note in made.notes:
            notice(note)

    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None:
        """Say what is odd about the types."""
        self.mix = mix
        self.status.clear()
        warn_of_types(mix, header, without_importance)

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        """Show how far a measurement is."""
        self.status.show(f"{what}: {n_done} of {n_total}")

    def not_folded(self, reason: str) -> None:
        """Say what of the model is not scaled."""
        self.status.clear()
        notice(reason)

    def quantizing(self, progress: Progress) -> None:
        """Show how many weights are done."""
        from localllm.gguf import printable

        name, left = self.mix.file_type.name, duration(progress.left_s)
        self.status.show(f"{name}: {progress.share:.0%} · {left} left · {printable(progress.tensor)}")


def warn_of_types(mix: Mix, header: GGUFHeader, without: Sequence[str]) -> None:
    """Say which tensors get another type than asked for, and which have no importance."""
    from localllm.gguf import printable

    if mix.fallbacks:
        first = mix.fallbacks[0]
        notice(
            f"{mix.file_type.name}: {len(mix.fallbacks)} of {len(header.tensors)} tensors have rows that their type's "
            f"blocks do not fit, and get another type: {printable(first)} {mix.types[first].name.upper()}."
        )
    if without:
        notice(f"The importance matrix lacks {len(without)} of the tensors, such as {printable(without[0])}.")
