"""Does H2O earn its place? python benchmarks/heavy_hitters.py --text FILE [--model REF] [--n-tokens 20000] [--json OUT]

A text streams through --n-ctx cells; when they are full, a quarter is freed. "sinks" forgets the oldest behind the
first four. "H2O" keeps the newest half, and of the rest those that were attended to most. Attention is accumulated over
queries, heads and layers, since llama.cpp has one set of cells for all of them; it can be seen only without flash
attention (the softmax's output, by the eval callback). Both have the same number of cells and move the same positions.
Perplexity per --block tokens; the ratio of both with its 95 % interval; what watching costs in time.

Source: Zhang et al. 2023, "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of LLMs", section 4.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import introduce
from streaming import loss_ratio, per_block
from window_score import N_CHUNK, next_losses, perplexity

from localllm.hardware import n_compute_threads
from localllm.llama import Batch, Context, ContextParams, EvalCallback, Model, TensorView
from localllm.store import resolve

N_SINK = 4


class Watched:
    """A context whose cells 0 .. n are in the order of their positions, and the attention that each received."""

    def __init__(self, model: Model, n_ctx: int, n_threads: int, *, watches: bool) -> None:
        self._callback = EvalCallback(lambda t: t.name.startswith("kq_soft_max"), self._take) if watches else None
        params = ContextParams(
            n_ctx=n_ctx,
            n_batch=N_CHUNK,
            n_ubatch=N_CHUNK,
            n_outputs_max=N_CHUNK,
            n_threads=n_threads,
            flash_attention=False if watches else None,
        )
        self.context = Context(model, params, eval_callback=self._callback)
        self._batch = Batch(N_CHUNK)
        self.attention = np.zeros(n_ctx)
        """Received by each cell since it was filled: [n_ctx] float64."""
        self.n_cells = 0

    def _take(self, softmax: TensorView) -> None:
        """Add up a layer's weights: ne is [n_kv, n_tokens, n_head, 1]."""
        received = softmax.read_f32().sum(axis=(0, 1, 2), dtype=np.float64)
        n = min(len(received), len(self.attention))
        self.attention[:n] += received[:n]

    def losses(self, chunk: list[int], targets: list[int]) -> list[float]:
        losses = next_losses(self.context, self._batch, chunk, self.n_cells, targets)
        self.n_cells += len(chunk)
        return losses

    def keep(self, kept: NDArray[np.int64]) -> None:
        """Forget all cells but these, in rising order; those behind a gap move up."""
        memory = self.context.memory
        for cell in sorted(set(range(self.n_cells)) - set(kept.tolist()), reverse=True):
            memory.remove(0, cell, cell + 1)
        # Into cells without gaps, so that the columns of the attention are in order.
        data = self.context.save_sequence(0)
        memory.clear()
        assert self.context.restore_sequence(0, data)
        starts = np.flatnonzero(np.diff(kept, prepend=-2) != 1)
        for start, end in zip(starts, [*starts[1:], len(kept)], strict=True):
            if kept[start] != start:
                memory.shift(0, int(kept[start]), int(kept[end - 1]) + 1, int(start - kept[start]))
        self.attention = np.concatenate([self.attention[kept], np.zeros(len(self.attention) - len(kept))])
        self.n_cells = len(kept)


def sinks(watched: Watched, n_free: int) -> NDArray[np.int64]:
    cells = np.arange(watched.n_cells)
    return np.concatenate([cells[:N_SINK], cells[N_SINK + n_free :]])


def heavy_hitters(watched: Watched, n_free: int) -> NDArray[np.int64]:
    n = watched.n_cells
    n_recent = (n - n_free) // 2
    old = np.argsort(-watched.attention[: n - n_recent], kind="stable")[: n - n_free - n_recent]
    return np.concatenate([np.sort(old), np.arange(n - n_recent, n)])


POLICIES = {"sinks": sinks, "h2o": heavy_hitters}


def stream(model: Model, tokens: list[int], args: argparse.Namespace, policy: str) -> tuple[NDArray[np.float64], float]:
    """Return the loss of every token but the first, and the seconds it took."""
    watched, nll = Watched(model, args.n_ctx, args.threads, watches=policy == "h2o"), list[float]()
    started = time.perf_counter()
    with watched.context:
        while len(nll) < len(tokens) - 1:
            if watched.n_cells + N_CHUNK > args.n_ctx:
                watched.keep(POLICIES[policy](watched, max((args.n_ctx - N_SINK) // 4, N_CHUNK)))
            at, end = len(nll), min(len(nll) + N_CHUNK, len(tokens) - 1)
            nll += watched.losses(tokens[at:end], tokens[at + 1 : end + 1])
    return np.array(nll), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a long text, UTF-8")
    parser.add_argument("--model", help="a name or a path; the demo model if left out")
    parser.add_argument("--n-ctx", type=int, default=1024)
    parser.add_argument("--n-tokens", type=int, default=20_000)
    parser.add_argument("--block", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    path = resolve(args.model)
    introduce(path, settings=f"n_ctx {args.n_ctx}, n_tokens {args.n_tokens}, n_threads {args.threads}")
    found: dict[str, Any] = {}
    losses: dict[str, NDArray[np.float64]] = {}
    with Model(path) as model:
        text = args.text.read_text(encoding="utf-8")
        tokens = model.vocab.tokenize(text, add_special=True, parse_special=False)[: args.n_tokens + 1]
        for policy in POLICIES:
            losses[policy], seconds = stream(model, tokens, args, policy)
            blocks = per_block(losses[policy], args.block)
            found[policy] = {"perplexity": perplexity(losses[policy]), "blocks": blocks, "seconds": seconds}
            print(f"{policy:5s} perplexity {perplexity(losses[policy]):.3f}, {seconds:.0f} s; per {args.block} tokens: "
                  + " ".join(f"{value:.2f}" for value in blocks))  # fmt: skip
    ratio, interval = loss_ratio(losses["h2o"], losses["sinks"])
    found["ratio"], found["interval_95"] = ratio, interval
    print(f"perplexity, H2O over sinks: {ratio:.4f} (95 %: {interval[0]:.4f} to {interval[1]:.4f})")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
