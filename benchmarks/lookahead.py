"""Lookahead decoding against none, by size of its window: what a step brings, what it costs here, where it would pay.

    python benchmarks/lookahead.py [--model PATH] [--pairs 4] [--tokens 200] [--threads N] [--json FILE]

A row for each text and size, of forced lookahead in turns with off on one engine: tokens of the batch and tokens gained
a step; the cost of a step over one without, from the two speeds, so what sharing cells takes is in it; net speed here;
and net speed on a flat curve, where each token of the batch costs a hundredth of a step, as on a GPU. Then the
controller of `auto`, simulated on both curves from the recorded gains, with the sizes that it knows.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intervals import ratio_interval
from spec_answers import Answer, Settings, in_turns, start
from spec_simulation import flat
from spec_tasks import TASKS, chat_prompt, prose_prompt

from localllm.engine import Engine
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.lookahead import LookaheadSize
from localllm.engine.speculation.lookahead_gain import SIZE_PRIORS, LookaheadGain
from localllm.engine.speculation.lookahead_planner import LookaheadPlanner
from localllm.hardware import n_compute_threads
from localllm.hardware.types import SpecMode, n_branch_ids
from localllm.llama import Model
from localllm.store import resolve

SIZES = (LookaheadSize(3, 3, 2), *SIZE_PRIORS)
N_PROSE = 2
HEADER = ("text", "W, N, G", "width", "tokens a step", "cost of a step", "net here", "net on a flat curve", "same")


class Gains:
    """How many tokens each step of the newest answer brought."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.steps: list[int] = []

    def begin(self, answer: Answer) -> None:
        self.answer, self.steps = answer, []

    def after_step(self) -> None:
        n_new = 0 if self.answer is None else len(self.answer.tokens) - sum(self.steps)
        if n_new:
            self.steps.append(n_new)


@dataclass(frozen=True)
class Row:
    """One text at one size."""

    text: str
    size: LookaheadSize
    width: float
    tokens_a_step: float
    speed: float
    interval: str
    n_same: int
    n_answers: int
    gains: list[int]

    @property
    def cells(self) -> tuple[str, ...]:
        w, n, g = self.size
        return (
            self.text,
            f"{w}, {n}, {g}",
            f"{self.width:.1f}",
            f"{self.tokens_a_step:.2f}",
            f"{self.tokens_a_step / self.speed:.2f}",
            self.interval,
            f"{self.tokens_a_step / flat(self.width):.2f}",
            f"{self.n_same} of {self.n_answers}",
        )


def measure(settings: Settings, model: Model, size: LookaheadSize, texts: dict[str, list[int]]) -> list[Row]:
    """Return the rows of one size: each text in turns with off, all on one engine."""
    gains = Gains()
    engine = Engine(model, settings.plan, lookahead_sizes=[size], after_step=gains.after_step)
    rows = []
    try:
        for name, prompt in texts.items():
            start(engine, prompt, 1, "off").wait()  # So that all runs begin from the same kept cells.
            known = start(engine, prompt, settings.n_tokens, "off", ignore_eos=True).wait().tokens
            rows.append(_row(settings, engine, size, name, prompt, known, gains))
    finally:
        engine.close()
    return rows


def _row(
    settings: Settings,
    engine: Engine,
    size: LookaheadSize,
    name: str,
    prompt: list[int],
    known: list[int],
    gains: Gains,
) -> Row:
    recorded: list[int] = []
    ahead: list[Answer] = []

    def speed(mode: SpecMode) -> float:
        answer = start(engine, prompt, settings.n_tokens, mode, ignore_eos=True)
        gains.begin(answer)
        answer.wait()
        if mode == "lookahead":
            ahead.append(answer)
            recorded.extend(gains.steps[1:])  # The first began before it was watched.
        return answer.tok_s

    ratio = ratio_interval(in_turns(speed, "lookahead", settings.n_pairs))
    n_tokens = sum(len(answer.tokens) for answer in ahead)
    n_steps = n_tokens - sum(answer.report["accepted"] for answer in ahead)
    drafted = sum(answer.report["drafted"] for answer in ahead)
    width = size.n_columns * (size.n_gram - 1) + drafted / n_steps
    interval = f"{ratio.mean:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    n_same = sum(answer.tokens == known for answer in ahead)
    return Row(name, size, width, n_tokens / n_steps, ratio.mean, interval, n_same, len(ahead), recorded)


def simulate(rows: Sequence[Row], curve: Callable[[float], float], n_steps: int = 2000) -> tuple[float, float]:
    """Return the speed of `auto` on a machine of this curve, and the share of its steps that looked ahead.

    Args:
        rows: of one text, whose recorded gains come round and round.
        curve: steps of one token that a batch of a width takes.
        n_steps: of the simulation.
    """
    controller, own = Controller(), LookaheadGain()
    planner = LookaheadPlanner(controller, n_branch_ids(1))
    cost = controller.cost(0, 1)
    cost.set_prior(min(2 * (curve(48) - 1) / 47, 0.5))
    by_size = {row.size: row for row in rows if row.size in SIZE_PRIORS and row.gains}
    n_tokens, spent, n_wide = 0, 0.0, 0
    for i in range(n_steps):
        size = planner.choose_size(own, cost, n_streams=1, max_ratio=float("inf"), sizes=tuple(by_size))
        if size is None:
            controller.credit_step()
            n_tokens, spent = n_tokens + 1, spent + 1.0
            continue
        gains, ratio = by_size[size].gains, curve(by_size[size].width)
        gained = gains[i % len(gains)]
        n_tokens, spent, n_wide = n_tokens + gained, spent + ratio, n_wide + 1
        planner.observe(own, size, gained)
        controller.observe(cost, n_streams=1, n_drafted=size.n_tokens, n_accepted=gained - 1, ratio=ratio)
    return n_tokens / spent, n_wide / n_steps


def report(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Print both tables; return the simulations."""
    print(_line(HEADER), _line(["---"] * len(HEADER)), *(_line(row.cells) for row in rows), sep="\n")
    names = list(dict.fromkeys(row.text for row in rows))
    print("", _line(("text", "auto here", "auto on a flat curve")), _line(["---"] * 3), sep="\n")
    found = []
    for name in names:
        mine = [row for row in rows if row.text == name]
        per_token = statistics.median((row.tokens_a_step / row.speed - 1) / (row.width - 1) for row in mine)
        here, there = (simulate(mine, curve) for curve in (lambda width, c=per_token: 1.0 + c * (width - 1), flat))
        print(_line((name, *(f"{speed:.3f}, {share:.0%} of steps" for speed, share in (here, there)))))
        found.append({"text": name, "here": here, "flat": there})
    return found


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a path or a name; the demo model by default")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only the first so many")
    parser.add_argument(
        "--texts", type=int, default=len(TASKS) + N_PROSE, help="only the last so many, prose at the end"
    )
    parser.add_argument("--json", type=Path, help="write all numbers there")
    args = parser.parse_args()
    path = resolve(args.model)
    settings = Settings(path, args.pairs, args.tokens, args.threads, args.kv_type, "lookahead")
    with Model(path) as model:
        texts = {name: chat_prompt(model.vocab, text) for name, text in TASKS.items()}
        texts |= {f"prose {seed}": prose_prompt(model.vocab, seed) for seed in range(N_PROSE)}
        chosen = dict(list(texts.items())[-args.texts :])
        rows = [row for size in SIZES[: args.sizes] for row in measure(settings, model, size, chosen)]
    print(f"{path.name}, {settings.n_threads} threads, {settings.n_pairs} pairs of {settings.n_tokens} tokens\n")
    simulated = report(rows)
    if args.json:
        results = [{**row.__dict__, "size": list(row.size)} for row in rows]
        args.json.write_text(json.dumps({"model": path.name, "rows": results, "simulated": simulated}, indent=1))


if __name__ == "__main__":
    main()
