"""Measure StreamingLLM: python benchmarks/streaming.py --text FILE [--model REF] [--second-model REF] [--json OUT]

Reading: a long text streams through a context of --n-ctx cells, in steps of a quarter of the window. Perplexity per
--block tokens with four sinks, with none, and with the window computed anew (the tokens that the sliding context held,
as many of the newest ones, from nothing) at --positions evenly spaced places; there, the ratio of the two perplexities
with its 95 % interval. The memory of the process after the first block and at the end.

Writing: --n-generate tokens with the policy "sinks", default sampling but for --temperature, and a seed; per block the
share of distinct 4-grams and, with --second-model, the perplexity of its text under that model.

Source: Xiao et al. 2024, sections 4.1 and 4.2.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from line_plot import Line, line_plot
from ours import Settings
from report import machine
from window_score import Scored, perplexity, recomputed_loss, score, scoring_context

from localllm.engine import Engine, Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.engine.context_policy import Window
from localllm.hardware.cpu import n_compute_threads
from localllm.llama import Model
from localllm.store import resolve

MIB = 1 << 20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a long text, UTF-8")
    parser.add_argument("--model", help="a name or a path; the demo model if left out")
    parser.add_argument("--second-model", help="judges what was written")
    parser.add_argument("--n-ctx", type=int, default=1024)
    parser.add_argument("--n-sink", type=int, default=4)
    parser.add_argument("--n-tokens", type=int, default=60_000, help="of the text")
    parser.add_argument("--block", type=int, default=2000)
    parser.add_argument("--positions", type=int, default=500, help="where the window is computed anew")
    parser.add_argument("--n-generate", type=int, default=20_000)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the writing; lower, a small model loops")
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="an SVG file, such as docs/images/streaming.svg")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print(machine())
    path = resolve(args.model)
    with Model(path) as model:
        found = {"model": model.description, "n_ctx": args.n_ctx, "reading": read(args, model)}
        if args.n_generate:
            settings = Settings(path, args.n_ctx, 1, args.threads, "f16", 512, 512, args.seed, worker=False)
            blocks = written_blocks(write(settings, model, args), args.block)
            texts = [b"".join(model.vocab.piece(token) for token in block) for block in blocks]
            found["writing"] = {"distinct_4grams": [distinct(block, 4) for block in blocks]}
    if args.n_generate and args.second_model:
        found["writing"]["second_perplexity"] = judge(resolve(args.second_model), texts, args.threads)
    for name, values in found.get("writing", {}).items():
        print(f"{name} per {args.block} tokens: {' '.join(f'{value:.3f}' for value in values)}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if args.plot:
        args.plot.write_text(plot(found["reading"], args), encoding="utf-8")


def read(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Score the text in every way; return the numbers."""
    text = args.text.read_text(encoding="utf-8")
    tokens = model.vocab.tokenize(text, add_special=True, parse_special=False)[: args.n_tokens + 1]
    memory: dict[int, float] = {}

    def note(n_done: int) -> None:
        memory[n_done // args.block * args.block] = psutil.Process().memory_info().rss / MIB
        progress("reading", n_done, len(tokens) - 1)

    with scoring_context(model, args.n_ctx, args.threads) as context:
        sinks = score(context, tokens, Window(args.n_sink, args.n_ctx), note)
        plain = score(context, tokens, Window(0, args.n_ctx), lambda n: progress("no sinks", n, len(tokens) - 1))
        places, fresh = recompute(args, context, tokens, sinks)
    ratio, interval = loss_ratio(sinks.nll[places], fresh)
    found = {
        "n_tokens": len(tokens),
        "n_evicted": sinks.n_evicted,
        "sinks": per_block(sinks.nll, args.block),
        "no_sinks": per_block(plain.nll, args.block),
        "sinks_over_recomputed": ratio,
        "interval_95": interval,
        "memory_mib": memory,
    }
    print(f"{len(tokens)} tokens, {sinks.n_evicted} left; perplexity with sinks {perplexity(sinks.nll):.2f}, "
          f"without {perplexity(plain.nll):.2f}")  # fmt: skip
    print(f"at {len(places)} places: with sinks {perplexity(sinks.nll[places]):.2f}, computed anew "
          f"{perplexity(fresh):.2f}, ratio {ratio:.4f} (95 %: {interval[0]:.4f} to {interval[1]:.4f})")  # fmt: skip
    print(f"memory, MiB: {' '.join(f'{mib:.0f}' for mib in memory.values())}")
    return found


def recompute(
    args: argparse.Namespace, context: Any, tokens: Sequence[int], sinks: Scored
) -> tuple[np.ndarray, np.ndarray]:
    """Return places evenly spaced behind the first window, and the losses there with the window computed anew."""
    n_places = min(args.positions, len(sinks.nll) - args.n_ctx)
    places = np.linspace(args.n_ctx, len(sinks.nll) - 1, max(n_places, 1)).astype(int)
    losses = []
    for number, place in enumerate(places):
        first = place + 1 - int(sinks.n_seen[place])
        losses.append(recomputed_loss(context, tokens[first : place + 1], tokens[place + 1]))
        progress("computing anew", number + 1, len(places))
    return places, np.array(losses)


def loss_ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the ratio of two perplexities on the same tokens, and its 95 % interval (paired, normal)."""
    difference = ours - theirs
    mean, error = float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return math.exp(mean), (math.exp(mean - error), math.exp(mean + error))


def per_block(nll: np.ndarray, block: int) -> list[float]:
    return [perplexity(nll[start : start + block]) for start in range(0, len(nll), block)]


def write(settings: Settings, model: Model, args: argparse.Namespace) -> list[int]:
    """Generate with sinks; return the tokens."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    prompt = model.vocab.tokenize(args.text.read_text(encoding="utf-8")[:2000], add_special=True, parse_special=False)
    request = GenerationRequest(
        prompt=tuple(prompt[:200]),
        max_tokens=args.n_generate,
        sampling=SamplingParams(seed=args.seed, temperature=args.temperature),
        ignore_eos=True,
        context_policy="sinks",
        n_sink=args.n_sink,
    )
    engine, tokens = Engine(model, settings.plan), []
    try:
        engine.submit(request, events.put)
        while not isinstance(event := events.get(), FinishEvent):
            if isinstance(event, TokenEvent):
                tokens.append(event.token)
                progress("writing", len(tokens), args.n_generate)
    finally:
        engine.close()
    print(f"{len(tokens)} tokens written, {event.usage.evicted_tokens} left, {event.timings.decode_tok_s:.1f} tok/s, "
          f"memory {psutil.Process().memory_info().rss / MIB:.0f} MiB")  # fmt: skip
    return tokens


def written_blocks(tokens: list[int], block: int) -> list[list[int]]:
    return [tokens[start : start + block] for start in range(0, len(tokens), block)]


def distinct(tokens: Sequence[int], n: int) -> float:
    """Return the share of n-grams that differ from all others of the block."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / max(len(grams), 1)


def judge(path: Path, texts: Sequence[bytes], n_threads: int) -> list[float]:
    """Return the perplexity of each text under another model."""
    found = []
    with Model(path) as model, scoring_context(model, 4096, n_threads) as context:
        for number, text in enumerate(texts):
            words = text.decode("utf-8", "replace")
            tokens = model.vocab.tokenize(words, add_special=True, parse_special=False)
            found.append(perplexity(score(context, tokens, Window(4, 4096), lambda n: None).nll))
            progress("judging", number + 1, len(texts))
    return found


def plot(reading: dict[str, Any], args: argparse.Namespace) -> str:
    """Both ways over the whole text; the few places where the window was computed anew are no line."""
    names = {"sinks": f"{args.n_sink} sinks", "no_sinks": "no sinks"}
    lines: dict[str, Line] = {
        label: [((i + 1) * args.block, y) for i, y in enumerate(reading[name])] for name, label in names.items()
    }
    title = f"Perplexity per {args.block:,} tokens, {args.n_ctx:,} cells"
    return line_plot(title, "tokens read", "perplexity", lines)


def progress(what: str, n_done: int, n: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what} {n_done}/{n}\x1b[K", end="" if n_done < n else "\r\x1b[K", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
