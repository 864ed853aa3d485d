"""How fast each KV type is: python benchmarks/kv_speed.py [--model REF] [--depth 1500] [--rounds 8] [--json OUT]

One context a type, all of one model. Prefill is timed once for each; then blocks of --tokens tokens are decoded from
--depth on, every type in turns, as ratios to f16 in the same round.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from intervals import ratio_interval
from report import introduce

from localllm.hardware import n_compute_threads
from localllm.llama import Batch, Context, ContextParams, Model
from localllm.store import resolve

TYPES = ("f16", "bf16", "f32", "q8_0", "q8_0,q4_0", "q5_1", "q5_0", "q4_1", "iq4_nl", "q4_0")
N_BATCH = 512


def open_context(model: Model, kinds: str, n_ctx: int, n_threads: int) -> Context:
    kind_k, kind_v = (*kinds.split(","), kinds)[:2]
    return Context(
        model, ContextParams(n_ctx=n_ctx, n_batch=N_BATCH, n_threads=n_threads, kv_type_k=kind_k, kv_type_v=kind_v)
    )


def prefill(context: Context, batch: Batch, tokens: list[int]) -> float:
    """Evaluate a prompt; return tokens a second."""
    started = time.perf_counter()
    for at in range(0, len(tokens), N_BATCH):
        batch.clear()
        batch.add_run(tokens[at : at + N_BATCH], at, 0, last_wants_logits=True)
        assert context.decode(batch) == 0
    return len(tokens) / (time.perf_counter() - started)


def decode(context: Context, batch: Batch, tokens: list[int], depth: int) -> float:
    """Evaluate tokens one by one behind the prompt, and forget them; return tokens a second."""
    started = time.perf_counter()
    for i, token in enumerate(tokens):
        batch.clear()
        batch.add(token, depth + i, 0, wants_logits=True)
        assert context.decode(batch) == 0
    seconds = time.perf_counter() - started
    context.memory.remove(0, depth, -1)
    return len(tokens) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name or a path; the demo model if left out")
    parser.add_argument("--depth", type=int, default=1500)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    path = resolve(args.model)
    introduce(path, settings=f"depth {args.depth}, tokens {args.tokens}, rounds {args.rounds}, threads {args.threads}")
    rng, batch = np.random.default_rng(0), Batch(N_BATCH)
    with Model(path) as model, ExitStack() as stack:
        prompt, block = ([int(t) for t in rng.integers(100, 5000, n)] for n in (args.depth, args.tokens))
        n_ctx = args.depth + args.tokens
        contexts = {k: stack.enter_context(open_context(model, k, n_ctx, args.threads)) for k in args.types}
        prefills = {kinds: prefill(context, batch, prompt) for kinds, context in contexts.items()}
        speeds: dict[str, list[float]] = {kinds: [] for kinds in contexts}
        for _ in range(args.rounds):
            for kinds, context in contexts.items():
                speeds[kinds].append(decode(context, batch, block, args.depth))
    for kinds, own in speeds.items():
        ratio = ratio_interval([a / b for a, b in zip(own, speeds[args.types[0]], strict=True)])
        print(f"{kinds:10s} prefill {prefills[kinds]:6.1f} tok/s, decode {np.median(own):6.1f} tok/s, "
              f"over {args.types[0]} {ratio}")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({"prefill": prefills, "decode": speeds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
