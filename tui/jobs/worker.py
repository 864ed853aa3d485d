"""The process of one job: `python -m tui.jobs.worker`.

It reads one line of JSON, the request, and writes lines of JSON: progress, and in the end the result, the error or that
it was stopped. When its stdin is closed it stops, as by Ctrl-C: so it also ends when the app is killed.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

from localllm.errors import LocalLLMError
from tui.jobs.requests import from_json

NICE = 10
"""So that a model that is talked to goes first."""
_STOP_S = 30.0
"""How long what was interrupted may take to end."""


def main() -> None:
    """Do one job."""
    out = _own_stdout()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _be_nice()
    request = from_json(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_stop_with_stdin, daemon=True).start()
    try:
        from tui.jobs.work import do

        _tell(out, {"result": do(request, lambda told: _tell(out, told))})
    except KeyboardInterrupt:
        _tell(out, {"stopped": True})
    except LocalLLMError as error:
        _tell(out, {"error": {"message": error.message, "hint": error.hint}})


def _own_stdout() -> BinaryIO:
    """Return stdout, which from now on nobody else writes to: what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


def _tell(out: BinaryIO, told: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(told).encode() + b"\n")
        out.flush()
    except OSError:
        os._exit(1)


def _stop_with_stdin() -> None:
    sys.stdin.buffer.read()
    _thread.interrupt_main()
    time.sleep(_STOP_S)
    os._exit(1)


def _be_nice() -> None:
    if sys.platform == "win32":
        import psutil

        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(NICE)


if __name__ == "__main__":
    main()
