"""Speculation against none, in turns on one engine, and against the best that could be.

    python benchmarks/speculation.py [curve] [tasks] [prose] [streams] [peer] [--model PATH] [--pairs 8] [--threads N]
                                     [--draft-model PATH]

curve: what a batch of width n costs over width 1, and the speed of an oracle that replays known output at each width.
tasks: work that repeats itself; auto over off, and the share of the gain of the best lookup in hindsight.
prose: stories, where nothing repeats. streams: eight at once. peer: the tasks, against llama.cpp's own server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from hindsight import best_speedup
from intervals import Interval, ratio_interval
from spec_answers import N_STREAMS, Answer, Settings, in_turns, start
from spec_peer import run_peer
from spec_tasks import TASKS, chat_prompt, prose_prompt

from localllm.engine import Engine
from localllm.hardware import n_compute_threads
from localllm.hardware.types import MAX_DRAFT_TOKENS, SpecMode
from localllm.llama import Batch, Context, ContextParams, Model
from localllm.store import resolve

PARTS = ("curve", "tasks", "prose", "streams", "peer")
WIDTHS = (2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48)


class Bare:
    """A context without an engine, at some depth, on which batches are timed."""

    def __init__(self, settings: Settings, model: Model, depth: int) -> None:
        params = ContextParams(
            n_ctx=2048,
            n_batch=512,
            n_outputs_max=1 + MAX_DRAFT_TOKENS,
            n_threads=settings.n_threads,
            kv_type_k=settings.kv_type,
            kv_type_v=settings.kv_type,
        )
        self.context = Context(model, params)
        self.batch = Batch(512)
        self._tokens = [int(t) for t in np.random.default_rng(0).integers(100, 5000, depth + 1024)]
        self.depth = depth
        for at in range(0, depth, 256):
            self._decode(at, min(256, depth - at), 1)

    def seconds(self, width: int, at: int | None = None) -> float:
        """Return the time of a batch, the reading of its logits included; its cells are freed again."""
        at = self.depth if at is None else at
        started = time.perf_counter()
        self._decode(at, width, width)
        for index in range(width):
            self.context.logits(index).argmax()
        seconds = time.perf_counter() - started
        self.context.memory.remove(0, at, -1)
        return seconds

    def replay(self, width: int, n: int) -> float:
        """Return the seconds of an oracle that has `n` tokens confirmed, `width` at a time."""
        started = time.perf_counter()
        for at in range(self.depth, self.depth + n, width):
            self._decode(at, width, width)
            for index in range(width):
                self.context.logits(index).argmax()
        seconds = time.perf_counter() - started
        self.context.memory.remove(0, self.depth, -1)
        return seconds

    def _decode(self, at: int, n: int, n_outputs: int) -> None:
        self.batch.clear()
        tokens = self._tokens[at : at + n]
        if n_outputs == 1:
            self.batch.add_run(tokens, at, 0, last_wants_logits=True)
        else:
            self.batch.add_outputs(tokens, at, 0)
        assert self.context.decode(self.batch) == 0


def measure_curve(settings: Settings, model: Model) -> dict[int, Interval]:
    """Return the cost of each width over width 1, in turns, 500 tokens deep."""
    bare = Bare(settings, model, 500)
    with bare.context:
        bare.seconds(1)
        found = {}
        for width in WIDTHS:
            ratios = [bare.seconds(width) / bare.seconds(1) for _ in range(max(settings.n_pairs, 3))]
            found[width] = ratio_interval(ratios)
    return found


def measure_oracle(settings: Settings, model: Model) -> dict[int, float]:
    """Return the speed of an oracle at each width, over width 1."""
    bare, oracle = Bare(settings, model, 500), {}
    with bare.context:
        for width in WIDTHS:
            n = 96 // width * width
            oracle[width] = statistics.median(
                bare.replay(1, n) / bare.replay(width, n) for _ in range(max(settings.n_pairs // 4, 1))
            )
    return oracle


def on_a_thread_that_ends(
    measure: Callable[[Settings, Model], dict[int, Any]], settings: Settings, model: Model
) -> dict[int, Any]:
    """Measure on a thread of its own.

    libgomp keeps a pool of threads for every thread that computed; with those of two, its barriers no longer spin, and
    an engine's steps get slower by half, the narrow ones most. A pool ends with its thread.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(measure, settings, model).result()


def run_curve(settings: Settings, model: Model) -> dict[str, Any]:
    curve = on_a_thread_that_ends(measure_curve, settings, model)
    oracle = on_a_thread_that_ends(measure_oracle, settings, model)
    for width in WIDTHS:
        print(f"  width {width:2d} costs {curve[width]}, an oracle is {oracle[width]:.2f}x as fast")
    return {"cost": {w: c.as_dict() for w, c in curve.items()}, "oracle": oracle}


def run_tasks(settings: Settings, model: Model) -> dict[str, Any]:
    curve = on_a_thread_that_ends(measure_curve, settings, model)
    widths, costs = [1, *WIDTHS], [1.0, *(curve[w].mean for w in WIDTHS)]
    found = {}
    engine = Engine(model, settings.plan, draft_model=settings.draft_model)
    try:
        for name, text in TASKS.items():
            prompt = chat_prompt(model.vocab, text)
            start(engine, prompt, 1, "off").wait()  # So that all runs begin from the same kept cells.
            known = start(engine, prompt, settings.n_tokens, "off").wait().tokens
            answers: list[Answer] = []

            def speed(mode: SpecMode, prompt: list[int] = prompt, answers: list[Answer] = answers) -> float:
                answers.append(start(engine, prompt, settings.n_tokens, mode).wait())
                return answers[-1].tok_s

            ratio = ratio_interval(in_turns(speed, settings.spec, settings.n_pairs))
            drafted = [answer for answer in answers if answer.report]
            bounds = [best_speedup(prompt, a.tokens, lambda w: float(np.interp(w, widths, costs))) for a in drafted]
            best, oracle = (statistics.mean(speedups) for speedups in zip(*bounds, strict=True))
            share = (ratio.mean - 1) / (best - 1) if best > 1 else float("nan")
            reports = [answer.report for answer in drafted]
            n_same = sum(answer.tokens == known for answer in answers)
            print(f"  {name:9s} {len(known):4d} tokens: {ratio}; lookup in hindsight {best:.2f}, oracle {oracle:.2f}")
            print(f"            share of the best gain {share:.0%}; {reports[-1]}; same {n_same} of {len(answers)}")
            found[name] = {
                "ratio": ratio.as_dict(), "hindsight": best, "oracle": oracle, "share": share,
                "reports": reports, "n_same": n_same, "prompt": prompt, "output": known,
            }  # fmt: skip
    finally:
        engine.close()
    return found


def run_prose(settings: Settings, model: Model) -> dict[str, Any]:
    engine, seeds = Engine(model, settings.plan, draft_model=settings.draft_model), iter(range(settings.n_pairs))
    reports: list[dict[str, Any]] = []
    try:
        ratios = []
        for seed in seeds:
            prompt = prose_prompt(model.vocab, seed)
            start(engine, prompt, 1, "off").wait()

            def speed(mode: SpecMode, prompt: list[int] = prompt) -> float:
                answer = start(engine, prompt, settings.n_tokens, mode, ignore_eos=True).wait()
                reports.append(answer.report)
                return answer.tok_s

            ratios += in_turns(speed, settings.spec, 2)
    finally:
        engine.close()
    n_drafted = sum(r.get("drafted", 0) for r in reports)
    ratio = ratio_interval(ratios)
    print(f"  prose {ratio}; {n_drafted} tokens drafted")
    return {"ratio": ratio.as_dict(), "reports": [r for r in reports if r]}


def run_streams(settings: Settings, model: Model) -> dict[str, Any]:
    engine = Engine(model, settings.plan, draft_model=settings.draft_model)
    texts = [*TASKS.values()][:2]
    prompts = [chat_prompt(model.vocab, text) for text in texts]
    prompts += [prose_prompt(model.vocab, seed) for seed in range(N_STREAMS - len(prompts))]
    for prompt in prompts:
        start(engine, prompt, 1, "off").wait()

    def speed(mode: SpecMode) -> float:
        started = time.perf_counter()
        answers = [start(engine, prompt, settings.n_tokens, mode, ignore_eos=True) for prompt in prompts]
        n = sum(len(answer.wait().tokens) for answer in answers)
        return n / (time.perf_counter() - started)

    try:
        ratio = ratio_interval(in_turns(speed, settings.spec, settings.n_pairs))
        drafted = engine.stats().n_tokens_drafted
    finally:
        engine.close()
    print(f"  {N_STREAMS} streams {ratio}; {drafted} tokens drafted")
    return {"ratio": ratio.as_dict(), "drafted": drafted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--model", help="a path or a name; the demo model by default")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--spec", choices=("auto", "ngram", "draft"), default="auto")
    parser.add_argument("--draft-model", help="a small model with the same vocabulary: a path or a name")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    args = parser.parse_args()
    path = resolve(args.model)
    runs = {"curve": run_curve, "tasks": run_tasks, "prose": run_prose, "streams": run_streams, "peer": run_peer}
    results: dict[str, Any] = {"model": path.name, "draft_model": args.draft_model, "threads": args.threads}
    with ExitStack() as stack:
        model = stack.enter_context(Model(path))
        draft = stack.enter_context(Model(resolve(args.draft_model))) if args.draft_model else None
        settings = Settings(path, args.pairs, args.tokens, args.threads, args.kv_type, args.spec, draft)
        for part in args.parts or PARTS:
            print(f"{part}: {path.name}, {settings.n_threads} threads")
            results[part] = runs[part](settings, model)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
