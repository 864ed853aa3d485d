"""What a part of the benchmark hands back, and how it is printed."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """One claim: what must hold, and what was measured."""

    claim: str
    bound: str
    measured: str
    holds: bool

    def __str__(self) -> str:
        return f"{'PASS' if self.holds else 'FAIL'}  {self.claim}: {self.bound}; measured {self.measured}"


@dataclass
class PartResult:
    """Rows of (name, value) for the table, verdicts, and every raw number for --json."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: object) -> None:
        self.rows.append((name, str(value)))

    def judge(self, claim: str, bound: str, measured: object, holds: bool) -> None:
        self.verdicts.append(Verdict(claim, bound, str(measured), bool(holds)))

    def print(self) -> None:
        print(f"\n{self.title}")
        width = max((len(name) for name, _ in self.rows), default=0)
        for name, value in self.rows:
            print(f"  {name:<{width}}  {value}")
        for verdict in self.verdicts:
            print(f"  {verdict}")


def write_parts(path: Path | None, facts: dict[str, str], parts: Mapping[str, PartResult]) -> None:
    """Write everything that is known so far as JSON, if a file is named."""
    if path is not None:
        found = {"machine": facts, "parts": {name: asdict(part) for name, part in parts.items()}}
        path.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")


def count_claims(parts: Iterable[PartResult]) -> int:
    """Say how many claims hold; return the exit status: 1 where one does not."""
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    print(f"\n{sum(verdict.holds for verdict in verdicts)} of {len(verdicts)} claims hold")
    return int(not all(verdict.holds for verdict in verdicts))


def introduce(model: Path, **more: str) -> dict[str, str]:
    """Print, and return, what the numbers of this run belong to: machine, versions, command and model."""
    facts = machine() | {"command": " ".join(sys.argv), "model": model.name} | more
    for name, value in facts.items():
        print(f"{name:<18}  {value}")
    return facts


def machine() -> dict[str, str]:
    """Describe the machine and the versions that the numbers belong to."""
    import llama_cpp
    import psutil

    from localllm.llama.library import build_info, system_info

    facts = {
        "cpu": _cpu_name(),
        "cores": f"{psutil.cpu_count(logical=False)} physical, {psutil.cpu_count()} logical",
        "load": ", ".join(f"{x:.2f}" for x in psutil.getloadavg()),
        "ram": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "llama-cpp-python": llama_cpp.__version__,
        "llama.cpp": build_info(),
        "features": system_info(),
    }
    try:
        import xllamacpp
    except ImportError:
        facts["xllamacpp"] = "not installed"
    else:
        facts["xllamacpp"] = str(xllamacpp.BUILD_INFO)
        facts["xllamacpp features"] = str(xllamacpp.get_system_info()).strip()
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
