"""A worker that does what its request's source says, and no work: run as a file by the tests of jobs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(**told: object) -> None:
    write(json.dumps(told))


def main() -> None:
    request = json.loads(sys.stdin.readline())
    script = os.path.basename(request.get("source") or request["reference"]).removesuffix(".gguf")
    say(stage="load", share=0.5)
    say(note="One tensor is odd.")
    say(stage="read", share=0.25, detail="chunk 1 of 4", left_s=30)
    match script:
        case "fail":
            say(error={"message": "It is quantized already.", "hint": "Take a 16-bit file."})
        case "crash":
            sys.stderr.write("GGML_ASSERT(false)\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case "garbage":
            write("no JSON at all\n[]\n3")
            say(result={"files": []})
        case "wait":
            sys.stdin.read()
            say(stopped=True)
        case "deaf":
            time.sleep(600)
        case _:
            say(stage="quantize", share=1.0, detail="blk.0.attn_q.weight", left_s=0)
            say(result={"path": request.get("target", ""), "n_bytes": 1000, "bpw": 4.5, "method": "rtn", "files": []})


main()
