"""Child processes that meet a fault: a disk that becomes full, and a kill in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LIMITED = """
import resource, sys
from localllm.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main())
"""
"""The command line, where no file may grow beyond a limit: writes fail as on a full disk, in the middle of a file."""

KILLED = """
import os, signal, sys
from pathlib import Path
from localllm.calibrate import sums
from localllm.convert import convert
from localllm.workshop import Budget, CalibrationRequest, QuantizeRequest, quantize_file

sums.SAVE_S = 0.0
what, source, target, share = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])

def check(stage, n_done, n_total):
    if stage == what and n_done >= share * n_total:
        os.kill(os.getpid(), signal.SIGKILL)

class Watcher:
    def loading(self, share): pass
    def drawing(self, n_done, n_total): pass
    def differentiating(self, progress): pass
    def reading(self, progress): check("calibrate", progress.n_done, progress.n_total)
    def planned(self, header, mix, without_importance): pass
    def measuring(self, what, n_done, n_total): check(what, n_done, n_total)
    def quantizing(self, progress): check("quantize", progress.n_done, progress.n_total)

if what == "convert":
    convert(source, target, on_progress=lambda n_done, n_total: check("convert", n_done, n_total))
else:
    text = CalibrationRequest((source.parent / "text.txt",), n_ctx=64, memory_bytes=1 << 30)
    budget = Budget(bpw=6) if what == "measuring the parts" else None
    quantize_file(source, target, QuantizeRequest("Q4_0", calibration=text, n_threads=1, budget=budget), Watcher())
"""
"""Work that ends itself with SIGKILL when a share of a stage is done."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended."""

    code: int
    out: str
    err: str


def command(*arguments: str, max_file_bytes: int) -> Outcome:
    """Run `localllm` where no file may be larger than this."""
    done = _child(LIMITED, (str(max_file_bytes), *arguments))
    return Outcome(done.returncode, done.stdout, done.stderr)


def kill_in(stage: str, source: Path, target: Path, share: float = 0.5) -> None:
    """Convert or quantize `source` in a process that is killed when `share` of the stage is done."""
    done = _child(KILLED, (stage, str(source), str(target), str(share)))
    assert done.returncode == -signal.SIGKILL, done.stderr


def _child(script: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
