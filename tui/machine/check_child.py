"""Looks at the machine in a process of its own: drivers of GPUs may be slow, may crash, and take memory.

    python -m tui.machine.check_child [RPC ENDPOINT]...

Writes JSON lines: the devices, then each finding; then the devices again for each line that it reads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

Write = Callable[[dict[str, Any]], None]


def main(endpoints: Sequence[str], write: Write) -> None:
    """Say what there is, until nobody asks any more."""
    from localllm.errors import LocalLLMError
    from localllm.llama import add_rpc_servers
    from localllm.runtime.checkup import Finding, check_machine

    if endpoints:
        text = ", ".join(endpoints)
        try:
            add_rpc_servers(endpoints)
            write({"finding": asdict(Finding("rpc", True, f"{text}: there"))})
        except LocalLLMError as error:
            write({"finding": asdict(Finding("rpc", False, error.message, error.hint or ""))})
    _write_devices(write)
    for finding in check_machine():
        write({"finding": asdict(finding)})
    write({"is_done": True})
    for _ in sys.stdin:
        _write_devices(write)


def _write_devices(write: Write) -> None:
    from localllm.hardware.placement import offload_devices
    from localllm.llama import list_devices

    write({"devices": [asdict(device) for device in offload_devices(list_devices())]})


def print_line(said: dict[str, Any]) -> None:
    """Write one line, now."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:], print_line)
