"""Whether llama.cpp's kernels for Intel's AMX work here. Built by some versions of GCC, they end the process.

Those versions' `_tile_loadconfig` does not say that it reads 64 bytes, so the compiler drops most of what llama.cpp
writes there, and the processor refuses the rest. What was built cannot tell, so it is tried once for each build, in a
process of its own. Where it fails, weights stay in their own order, and no kernel of AMX is used.

Source: GCC bug 114098, mended in 11.5, 12.4, 13.3 and 14. `scripts/install` keeps such a GCC from using AMX at all.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from localllm.kept_facts import KeptFacts
from localllm.llama.library import library, used_features
from localllm.paths import cache_dir

FEATURE = "AMX_INT8"
REBUILD = "CXXFLAGS=-U__AMX_INT8__ pip install --force-reinstall --no-deps --no-cache-dir llama-cpp-python==0.3.36"
"""Says how to have a build without AMX, by the same compiler."""
_TIMEOUT_S = 60.0


@functools.cache
def amx_fails() -> bool:
    """Return whether this llama.cpp would use AMX, and must not. The first answer for a build takes half a second."""
    if FEATURE not in used_features():
        return False
    facts, key = KeptFacts(cache_dir() / "amx.json"), _build()
    known = facts.get(key)
    if known is None:
        known = {"fails": not _try()}
        facts.put(key, known)
    return bool(known.get("fails"))


def _build() -> str:
    path = Path(library()._lib._name)
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _try() -> bool:
    command = [sys.executable, "-P", "-m", "localllm.llama.amx_trial"]
    try:
        done = subprocess.run(command, timeout=_TIMEOUT_S, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
