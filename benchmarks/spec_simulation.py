"""The controller on a machine where width is cheap: python benchmarks/spec_simulation.py RECORD.json

RECORD.json is what `speculation.py tasks --json` wrote: prompts and outputs of a model. Each output is generated again
by n-gram lookup and the controller of `--spec auto`, the truth of each token taken from the record, the time of each
step from a curve: the measured one, if the record has it (`curve`), and a flat one, where each token of a batch
costs a hundredth of a step, as on a GPU. Beside it the best lookup in hindsight on that curve.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hindsight import best_speedup

from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.ngram import GRADE_PRIORS, NgramDrafter

Curve = Callable[[float], float]
NOISE = 0.08
"""Standard deviation of a step's time."""


def flat(width: float) -> float:
    """Return what a batch costs on a machine like a GPU, in steps of one token."""
    return 1.0 + 0.01 * (width - 1)


def measured(record: dict[str, Any]) -> Curve:
    """Return the curve of `speculation.py curve`."""
    costs = {1: 1.0, **{int(width): interval["mean"] for width, interval in record["curve"]["cost"].items()}}
    return lambda width: float(np.interp(width, sorted(costs), [costs[w] for w in sorted(costs)]))


@dataclass
class Simulated:
    """A machine that generates recorded texts, several at once in turns of one batch."""

    curve: Curve
    per_token: float
    """Seconds of a prompt's token, where a step of width 1 takes one."""

    def __post_init__(self) -> None:
        self.controller = Controller()
        self.shared = SharedRates(GRADE_PRIORS)
        self.rng = random.Random(9)
        self.n_drafted = 0

    def speedup(self, prompt: list[int], output: list[int], n_streams: int = 1) -> float:
        """Generate `output` on all streams and return the speed over that without drafts."""
        drafters = [(NgramDrafter(), Acceptance(self.shared), [*prompt, output[0]]) for _ in range(n_streams)]
        plain_s, end, spent = self.curve(n_streams), len(prompt) + len(output), 0.0
        cost = self.controller.cost(0, n_streams)
        cost.set_prior(self.per_token / plain_s)
        while (live := [d for d in drafters if len(d[2]) < end]) and len(live) == n_streams:
            survivals = []
            for drafter, rates, tokens in live:
                ready = drafter.follow(tokens, rates)
                n_left = end - len(tokens)
                survivals.append(rates.survival(drafter.grades()[: n_left - 1]) if ready else [])
            was_right = all(rates.was_right for _, rates, _ in live)
            counts = self.controller.choose(
                survivals, cost, n_streams=n_streams, n_max=47, max_ratio=99.0, was_right=was_right
            )
            accepted = 0
            for (drafter, _, tokens), n in zip(live, counts, strict=True):
                draft = drafter.propose(n) if n else []
                truth = output[len(tokens) - len(prompt) :]
                k = next((i for i, (a, b) in enumerate(zip(draft, truth, strict=False)) if a != b), len(draft))
                tokens += truth[: k + 1]
                accepted += k
            drafted = sum(counts)
            seconds = self.curve(n_streams + drafted) * self.rng.gauss(1.0, NOISE)
            spent += seconds
            self.n_drafted += drafted
            if drafted:
                self.controller.observe(
                    cost, n_streams=n_streams, n_drafted=drafted, n_accepted=accepted, ratio=seconds / plain_s
                )
            else:
                self.controller.credit_step()
        made = sum(len(d[2]) - len(prompt) - 1 for d in drafters) / n_streams
        return made * plain_s / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="what speculation.py wrote with --json")
    record = json.loads(parser.parse_args().record.read_text(encoding="utf-8"))
    curves = {"flat": flat}
    if "curve" in record:
        curves["measured"] = measured(record)
    for curve_name, curve in curves.items():
        machine = Simulated(curve, curve(48) / 48)
        for name, task in record["tasks"].items():
            found = machine.speedup(task["prompt"], task["output"])
            best, oracle = best_speedup(task["prompt"], task["output"], curve)
            share = (found - 1) / (best - 1)
            print(f"{curve_name:9s} {name:9s} {found:.2f}; lookup in hindsight {best:.2f}, oracle {oracle:.2f}; "
                  f"share of the best gain {share:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
