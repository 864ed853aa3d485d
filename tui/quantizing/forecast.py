"""How long a job will take, and what memory and room: scaled from what was measured (docs/quantizing.md).

Rough by nature: seconds of one thread of a server's core, by weights, tokens and columns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui.quantizing.prospect import Prospect

N_CTX = 512
N_DEFAULT_CHUNKS = 174
"""Of the calibration's own text, by SmolLM2's tokenizer."""
N_KL_CHUNKS = 24
_LOAD_S = 1e-9
"""A byte."""
_CONVERT_S = 4e-9
"""A byte."""
_READ_S = 2.8e-11
"""A weight and token, with second moments."""
_READ_PLAINLY_S = 1.2e-11
_GRADIENT_S = 1.2e-10
_ROUND_S = 4e-8
"""A weight, to nearest."""
_FEEDBACK_S, _FEEDBACK_COLUMN_S = 1e-7, 2.2e-10
"""A weight; a weight and column of the model's width."""
_TWO_SIDED = 2.6
"""How much longer feedback takes between rows, too."""
_FOLD_S = 1.5e-7
_TRY_TYPES_S = 5e-7
_N_PARTS, _N_PART_CHUNKS = 27, 4
_N_MEASURE_CHUNKS = 12
_TIME_S = 5e-8
_THREADS_POWER = 0.94
"""Eight cores take about a seventh of the time."""
_BASE_BYTES = 800 << 20
_N_MATRICES = 10
"""Of the widest input, that feedback has in memory."""


@dataclass(frozen=True)
class Forecast:
    """What is to be expected."""

    stages_s: Mapping[str, float]
    """Seconds by stage, in order."""
    memory_bytes: int
    disk_bytes: int
    """At most, while it goes on."""

    @property
    def total_s(self) -> float:
        return sum(self.stages_s.values())


def foretell(
    prospect: Prospect,
    method: str,
    types: Sequence[str],
    *,
    is_kl_aware: bool = False,
    n_chunks: int | None = None,
    target_bytes: int | None = None,
    has_report: bool = True,
    is_compared: bool = False,
    n_threads: int | None = None,
) -> Forecast:
    """Foretell making files of a model.

    Args:
        prospect: the model.
        method: how weights are rounded.
        types: those to make; with `target_bytes`, one that is passed over.
        is_kl_aware: with gradients.
        n_chunks: of the calibration; None: of the text that comes along.
        target_bytes: the size to aim at, where there is one.
        has_report: measured in the end.
        is_compared: several types are made, each a stage, and timed.
        n_threads: None: as many as there are cores.
    """
    n, speed = prospect.n_params, (n_threads or _n_cores()) ** _THREADS_POWER
    is_gptq, is_awq = "gptq" in method, "awq" in method
    n_tokens = N_CTX * (n_chunks or N_DEFAULT_CHUNKS)
    stages: dict[str, float] = {}
    if prospect.is_folder:
        stages["convert"] = prospect.n_bytes * _CONVERT_S * speed
    if is_gptq or is_awq or target_bytes is not None:
        stages["load"] = prospect.n_bytes * _LOAD_S * speed
        stages["read"] = n * n_tokens * (_READ_S if is_gptq or is_awq else _READ_PLAINLY_S)
    if is_kl_aware:
        stages["gradients"] = n * N_KL_CHUNKS * N_CTX * _GRADIENT_S
    if target_bytes is not None:
        stages["types"] = n * _TRY_TYPES_S
        stages["parts"] = n * _N_PARTS * _N_PART_CHUNKS * N_CTX * _READ_PLAINLY_S
    if is_awq:
        stages["fold"] = n * _FOLD_S * len(types)
    feedback = (_FEEDBACK_S + _FEEDBACK_COLUMN_S * prospect.n_embd) * (_TWO_SIDED if is_kl_aware else 1)
    for name in types:
        stages[f"quantize:{name}" if is_compared else "quantize"] = n * (feedback if is_gptq else _ROUND_S)
    if has_report or is_compared:
        stages["measure"] = n * _N_MEASURE_CHUNKS * N_CTX * _READ_PLAINLY_S * (1 + len(types))
    if is_compared:
        stages["time"] = n * _TIME_S * (1 + len(types)) * 10
    made = sum(prospect.sizes.get(name, prospect.n_bytes) for name in types) if target_bytes is None else target_bytes
    kept = prospect.moments_bytes * (is_gptq or is_awq) + prospect.gradients_bytes * is_kl_aware
    matrices = 4 * _N_MATRICES * prospect.widest**2 if is_gptq else 0
    measured = prospect.n_bytes + made if has_report or is_compared else 0
    return Forecast(
        {key: value / speed for key, value in stages.items()},
        _BASE_BYTES + max(matrices, measured),
        made + kept + (prospect.n_bytes if prospect.is_folder else 0),
    )


def foretell_measuring(n_params: int, n_bytes: int, n_files: int, n_threads: int | None = None) -> Forecast:
    """Foretell measuring files beside each other; `n_bytes` of all."""
    speed = (n_threads or _n_cores()) ** _THREADS_POWER
    seconds = n_params * _N_MEASURE_CHUNKS * N_CTX * _READ_PLAINLY_S * n_files / speed
    return Forecast({"measure": seconds}, _BASE_BYTES + n_bytes, 0)


def _n_cores() -> int:
    return os.cpu_count() or 1
