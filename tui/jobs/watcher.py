"""What the workshop says of its progress, as the stages of a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localllm.gguf import printable

if TYPE_CHECKING:
    from localllm.calibrate import Progress as ReadingProgress
    from localllm.convert import Conversion
    from localllm.gguf import GGUFHeader
    from localllm.gradients import GradientProgress
    from localllm.quantize import Mix, Progress

TELL_EVERY_S = 0.2
_MEASURED = {
    "trying types": "types",
    "measuring the parts": "parts",
    "folding": "fold",
    "reading the text: chunk": "measure",
    "timing: round": "time",
}


class StageWatcher:
    """Hears of all that the workshop does (a `QuantizeWatcher`, `SourceWatcher` and `MeasureWatcher`).

    Args:
        tell: takes what the interface is told.
        has_types: several types are made, each a stage of its own.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None], *, has_types: bool = False) -> None:
        self._tell = tell
        self._has_types = has_types
        self._stage = ""
        self._told_at_s = 0.0
        self._type_name = ""
        self._is_making = True

    def is_made(self) -> None:
        """From now on, models are loaded in order to be measured."""
        self._is_making = False

    def converting(self, n_done: int, n_total: int) -> None:
        self._on("convert", n_done / n_total)

    def converted(self, made: Conversion) -> None:
        for note in made.notes:
            self._note(note)

    def loading(self, share: float) -> None:
        if not self._is_making:
            self._on("measure", None, "loading the files")
        elif self._stage in ("", "convert", "load"):
            self._on("load", share)

    def drawing(self, n_done: int, n_total: int) -> None:
        self._on("draw", n_done / n_total, f"{n_done} of {n_total}")

    def reading(self, progress: ReadingProgress) -> None:
        detail = f"chunk {progress.n_done} of {progress.n_total}"
        self._on("read", progress.n_done / max(1, progress.n_total), detail, progress.left_s)

    def differentiating(self, progress: GradientProgress) -> None:
        way = "back" if progress.is_backward else "forward"
        self._on("gradients", progress.share, f"{way}, layer {progress.layer}", progress.left_s)

    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None:
        self._type_name = mix.file_type.name
        if mix.fallbacks:
            n = len(mix.fallbacks)
            self._note(
                f"{self._type_name}: the blocks of {n} of {len(header.tensors)} tensors do not fit; other types do."
            )
        if without_importance:
            self._note(f"The importance matrix lacks {len(without_importance)} of the tensors.")

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        self._on(_MEASURED.get(what, what), n_done / max(1, n_total), f"{n_done} of {n_total}")

    def not_folded(self, reason: str) -> None:
        self._note(reason)

    def quantizing(self, progress: Progress) -> None:
        stage = f"quantize:{self._type_name}" if self._has_types else "quantize"
        self._on(stage, progress.share, printable(progress.tensor), progress.left_s)

    def _note(self, text: str) -> None:
        self._tell({"note": printable(text, 300)})

    def _on(self, stage: str, share: float | None, detail: str = "", left_s: float | None = None) -> None:
        now_s = time.monotonic()
        if stage == self._stage and now_s - self._told_at_s < TELL_EVERY_S:
            return
        self._stage, self._told_at_s = stage, now_s
        self._tell({"stage": stage, "share": share, "detail": detail, "left_s": left_s})
