"""A process with a model and a store, which does what its standard input says: one JSON object a line, one a line back.

    {"prompts": [[1, 2, 3]], "n_tokens": 8}   answer these, all at once
    {"close": true}                           end as a program ends, saving what is kept

Each answer: its tokens, their 20 likeliest at each place, seconds to the first token, and what was reused.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
from pathlib import Path
from typing import Any

import msgspec

from localllm.engine import Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.hardware.types import LoadOptions
from localllm.runtime.backend import TextControls
from localllm.runtime.local import LocalBackend

GREEDY = SamplingParams(temperature=0)


def answer(backend: LocalBackend, prompts: list[list[int]], n_tokens: int) -> list[dict[str, Any]]:
    """Answer all prompts at once; return what became of each, in their order."""
    inboxes: list[queue.SimpleQueue[Event]] = [queue.SimpleQueue() for _ in prompts]
    for prompt, inbox in zip(prompts, inboxes, strict=True):
        request = GenerationRequest(
            prompt=tuple(prompt), max_tokens=n_tokens, sampling=GREEDY, ignore_eos=True, n_logprobs=20, spec="off"
        )
        backend.submit(request, TextControls(), inbox.put)
    return [collect(inbox) for inbox in inboxes]


def collect(inbox: queue.SimpleQueue[Event]) -> dict[str, Any]:
    """Wait for the end of one request."""
    tokens: list[int] = []
    top: list[dict[int, float]] = []
    while True:
        event = inbox.get(timeout=300)
        if isinstance(event, TokenEvent):
            tokens.append(event.token)
            top.append({t.token: t.logprob for t in event.top_logprobs})
        elif isinstance(event, FinishEvent):
            if event.error is not None:
                raise RuntimeError(event.error.message)
            cache = msgspec.structs.asdict(event.usage.cache) if event.usage.cache else None
            return {"tokens": tokens, "top": top, "ttft_s": event.timings.ttft_s, "cache": cache}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--n-ctx", type=int, default=4096)
    parser.add_argument("--store-bytes", type=int, default=1 << 30)
    args = parser.parse_args()
    options = LoadOptions(
        n_ctx=args.n_ctx,
        n_threads=args.threads,
        kv_type_k=args.kv_type,
        kv_type_v=args.kv_type,
        kv_store_bytes=args.store_bytes,
    )
    backend = LocalBackend(args.model, options)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "close" in command:
            break
        print(json.dumps(answer(backend, command["prompts"], command["n_tokens"])), flush=True)
    backend.close()


if __name__ == "__main__":
    main()
