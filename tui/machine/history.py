"""The speeds that were measured here, kept so that one sees what an update or a setting did."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from localllm.errors import RequestError
from localllm.paths import data_dir, ensure

MAX_RUNS = 200
"""The oldest beyond these are forgotten."""


@dataclass(frozen=True, kw_only=True)
class SpeedRun:
    """One measurement."""

    time: str
    """In ISO's format, UTC."""
    model: str
    file_type: str
    prompt_tok_s: float
    generation_tok_s: float
    low_tok_s: float
    """The quartiles of the generation."""
    high_tok_s: float
    n_prompt: int
    n_generated: int
    n_threads: int
    n_gpu_layers: int
    machine: str
    version: str
    """Of localllm."""
    llama_cpp: str

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Read one, as it was written.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        kinds = {"float": float, "int": int, "str": str}
        return cls(**{one.name: kinds[str(one.type)](values[one.name]) for one in fields(cls)})


class SpeedHistory:
    """All measurements, the oldest first, in a file. Reading and writing are slow: on a thread."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or data_dir() / "speeds.json"

    def read(self) -> list[SpeedRun]:
        """Return what is kept; what is damaged is left out."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        runs = []
        for values in found if isinstance(found, list) else []:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                runs.append(SpeedRun.of(values))
        return runs

    def add(self, run: SpeedRun) -> list[SpeedRun]:
        """Keep one more, and return all.

        Raises:
            RequestError: it cannot be written.
        """
        runs = [*self.read(), run][-MAX_RUNS:]
        ensure(self._file.parent)
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps([asdict(one) for one in runs]), encoding="utf-8")
            partial.replace(self._file)
        except OSError as error:
            raise RequestError(f"The result cannot be kept: {error.strerror}.", hint="See the disk.") from error
        return runs
