"""The peak of a process's memory goes up with what it takes, and not down again."""

from __future__ import annotations

import subprocess
import sys

BLOCK_BYTES = 64 << 20
CODE = f"""
from localllm.hardware.peak import peak_rss_bytes
before = peak_rss_bytes()
block = bytearray(b"x") * {BLOCK_BYTES}
during = peak_rss_bytes()
del block
print(before, during, peak_rss_bytes())
"""


def test_what_was_taken_is_remembered() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert before > 1 << 20 and during >= before + 0.9 * BLOCK_BYTES
    assert after >= 0.9 * during, "Linux counts to some pages"
