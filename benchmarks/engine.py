"""Measure the engine: python benchmarks/engine.py [--model PATH] [--part a b c d] [--pairs N] [--quick] [--json OUT]

Needs `pip install localllm[demo] xllamacpp`, and a machine with nothing else to do: the load average that is printed
should be near 0. Every comparison is made in turns, so that slow drift cancels, and every ratio has its interval.

a   The engine against a bare llama_decode loop, in this process, on the same model object, with two contexts made with
    equal parameters. Decode blocks of 64 tokens run from the first token to the 65th; both sides use the same C sampler
    chain (greedy, no token that ends a turn). Prefill blocks of 512 random tokens run from submission to the first
    token; the bare loop evaluates them in one llama_decode, the engine in chunks of its own choice. The engine runs on
    its own thread and hands each token to a queue, which is part of its price. The ratio is engine/bare speed: 1 is no
    overhead. Then the engine's own share of a step: 1 - (llama_decode + C sampler) / busy seconds, measured by
    wrapping the two calls.
b   Generated tokens a second against llama.cpp's own server (the `xllamacpp` wheel, in a subprocess, loopback HTTP
    with streaming), same model, context, threads, slots, KV type, unified KV, prompts of 32 tokens, 64 tokens each,
    from the first submission to the last token, prefill included. The two libraries are different builds of
    llama.cpp: the CPU features of both are printed, and a difference there is in the ratio. Texts may differ for the
    same reason. Ours runs in this process, or with --worker in a worker process, as the server and the TUI run it.
c   Four streams run; after a second a prompt of 1,500 tokens arrives. For ours: the longest gap between two tokens of
    any stream until the newcomer's first token, over the median gap before it came, on the engine's thread (the
    sink) and as a consumer thread sees it. For both: the newcomer's time to first token.
d   A second request with the first one's 1,000-token prefix, right after it (its cells are still in the KV cache) and
    after other requests have made the prefix move to RAM.

A verdict line is PASS or FAIL, the claim, its bound, and the measured number with its 95 % interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import arrival
import overhead
import prefix
import throughput
from ours import Settings
from report import PartResult, count_claims, introduce, write_parts

from localllm.hardware.cpu import n_compute_threads
from localllm.llama import Model
from localllm.store import resolve

PARTS: dict[str, tuple[Callable[[Settings, Model, int], PartResult], int, int]] = {
    "a": (overhead.run, 100, 6),
    "b": (throughput.run, 20, 3),
    "c": (arrival.run, 8, 2),
    "d": (prefix.run, 10, 2),
}
"""Each part, its pairs (or turns) by default, and with --quick."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--model", help="a GGUF file, or a name that the store knows; default: the demo model")
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--pairs", type=int, help="pairs (a, b) or turns (c, d), instead of each part's default")
    parser.add_argument("--quick", action="store_true", help="a few pairs, to see that it works; proves nothing")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8], help="how many at once, in b")
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--worker", action="store_true", help="b, c, d: run ours in a worker process")
    parser.add_argument("--n-ctx", type=int, default=8192)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", choices=["f16", "q8_0"], default="f16")
    parser.add_argument(
        "--spec", choices=["off", "auto"], default="off", help="drafts on our side; the others have none"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    settings = Settings(
        path=resolve(args.model),
        n_ctx=args.n_ctx,
        n_slots=args.slots,
        n_threads=args.threads,
        kv_type=args.kv_type,
        n_batch=2048,
        n_ubatch=512,
        seed=args.seed,
        worker=args.worker,
        streams=tuple(args.streams),
        spec=args.spec,
    )
    shown = ", ".join(f"{k} {v}" for k, v in asdict(settings).items() if k != "path")
    facts = introduce(settings.path, settings=shown)
    results: dict[str, PartResult] = {}
    with Model(settings.path) as model:
        for part in args.part:
            measure, n_default, n_quick = PARTS[part]
            started = time.perf_counter()
            results[part] = measure(settings, model, args.pairs or (n_quick if args.quick else n_default))
            results[part].raw["seconds"] = time.perf_counter() - started
            results[part].print()
            write_parts(args.json, facts, results)
    return count_claims(results.values())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
