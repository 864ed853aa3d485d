"""`localllm ...` in a process of its own, with a hub on loopback and a home of huggingface_hub of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.hub.local_hub import LocalHub

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass
class Commands:
    """Runs commands."""

    hub: LocalHub
    home: Path
    """HF_HOME."""

    @property
    def snapshots(self) -> list[Path]:
        """Everything in the cache that other programs would take for a model."""
        return sorted(path for path in self.home.glob("hub/*/snapshots/*/**/*") if not path.is_dir())

    @property
    def incomplete(self) -> list[Path]:
        return sorted(self.home.glob("hub/*/blobs/*.incomplete"))

    def start(self, *arguments: str, before: str = "", **variables: str) -> subprocess.Popen[str]:
        """Start `localllm`; `before` is Python that runs first."""
        code = f"import sys\n{before}\nfrom localllm.cli import main\nsys.exit(main())"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HF_") and name.lower() not in _PROXIES
        }
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**kept, "HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.endpoint, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, before: str = "", **variables: str) -> tuple[int, str, str]:
        """Return the exit code, stdout and stderr."""
        return ended(self.start(*arguments, before=before, **variables))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
