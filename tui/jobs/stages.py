"""The stages of a job: which are to come, how far the present one is, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

_TITLES = {
    "convert": "Convert the folder",
    "load": "Load the model",
    "draw": "Draw text",
    "read": "Read the calibration text",
    "gradients": "Take gradients",
    "types": "Try types",
    "parts": "Measure what parts mind",
    "fold": "Scale channels",
    "quantize": "Round the weights",
    "measure": "Measure against the original",
    "time": "Time the files",
}


@dataclass(frozen=True)
class Stage:
    """One stage at one moment."""

    key: str
    """A name, and after a colon what it is done for, if it is done for several."""
    phase: Literal["waiting", "running", "done"] = "waiting"
    share: float | None = None
    """How much is done, 0 to 1; None where nobody knows."""
    detail: str = ""
    """What is being done."""
    expected_s: float | None = None
    """What was foretold."""
    told_left_s: float | None = None
    """What it says itself, at `told_at_s`."""
    began_at_s: float = 0.0
    told_at_s: float = 0.0
    elapsed_s: float = 0.0
    """What it took, once it is done."""

    @property
    def title(self) -> str:
        name, _, which = self.key.partition(":")
        title = _TITLES.get(name, name)
        return f"{title}: {which}" if which else title

    def left_s(self, now_s: float) -> float | None:
        """Return how long it will go on; None if nobody knows."""
        if self.phase == "done":
            return 0.0
        if self.phase == "waiting":
            return self.expected_s
        since_s = now_s - self.told_at_s
        if self.told_left_s is not None:
            return max(0.0, self.told_left_s - since_s)
        elapsed_s = now_s - self.began_at_s
        if self.share and elapsed_s > 1:
            return max(0.0, (self.told_at_s - self.began_at_s) * (1 - self.share) / self.share - since_s)
        return None if self.expected_s is None else max(0.0, self.expected_s - elapsed_s)


def expected_stages(seconds: Mapping[str, float]) -> tuple[Stage, ...]:
    """Return the stages that are foretold, none of them begun."""
    return tuple(Stage(key, expected_s=value) for key, value in seconds.items())


def advance(stages: Sequence[Stage], told: Mapping[str, Any], now_s: float) -> tuple[Stage, ...]:
    """Return the stages after a line of progress: a stage that begins ends those before it."""
    key = str(told["stage"])
    found = list(stages)
    if all(stage.key != key for stage in found):
        at = next((n for n, stage in enumerate(found) if stage.phase == "waiting"), len(found))
        found.insert(at, Stage(key))
    at = next(n for n, stage in enumerate(found) if stage.key == key)
    for n, stage in enumerate(found):
        if (stage.phase == "running" and n != at) or (n < at and stage.phase == "waiting"):
            found[n] = ended(stage, now_s)
    stage = found[at]
    if stage.phase != "running":
        stage = replace(stage, phase="running", began_at_s=now_s, elapsed_s=0.0)
    found[at] = replace(
        stage,
        share=told.get("share"),
        detail=str(told.get("detail") or ""),
        told_left_s=told.get("left_s"),
        told_at_s=now_s,
    )
    return tuple(found)


def ended(stage: Stage, now_s: float) -> Stage:
    """Return a stage that is over."""
    elapsed_s = now_s - stage.began_at_s if stage.phase == "running" else stage.elapsed_s
    return replace(stage, phase="done", share=1.0, detail="", elapsed_s=elapsed_s)


def left_s(stages: Sequence[Stage], now_s: float) -> float | None:
    """Return how long all will take still; what is to come as foretold, by how right that was so far.

    None while nobody knows.
    """
    running = next((stage for stage in stages if stage.phase == "running"), None)
    now_left_s = None if running is None else running.left_s(now_s)
    if running is None or now_left_s is None:
        return None
    to_come_s = sum(stage.expected_s or 0.0 for stage in stages if stage.phase == "waiting")
    spent_s = sum(stage.elapsed_s for stage in stages if stage.phase == "done" and stage.expected_s)
    foretold_s = sum(stage.expected_s or 0.0 for stage in stages if stage.phase == "done" and stage.elapsed_s > 0)
    if running.expected_s and running.share:
        spent_s += now_s - running.began_at_s + now_left_s
        foretold_s += running.expected_s
    return now_left_s + to_come_s * (spent_s / foretold_s if spent_s and foretold_s else 1.0)
