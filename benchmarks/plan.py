"""The planner against reality: python benchmarks/plan.py [--models REF ...] [--threads N] [--speed] [--json OUT]

Memory: for every combination of context, slots and KV type, what the plan foretells, and what llama.cpp says it
allocated for the model and the engine's context. Speed: decode tokens a second as foretold from the header and products
measured now, and as decoded in the same minute, in turns; the fastest of each counts, since whatever else the machine
does only adds to a time. Without --models: the demo model, and tiny models with a sliding window and with experts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import introduce

from localllm.engine.engine import context_params
from localllm.errors import RequestError
from localllm.gguf import ModelShape
from localllm.hardware import n_compute_threads
from localllm.hardware.roofline import forecast
from localllm.hardware.types import LoadOptions, LoadPlan
from localllm.llama import Batch, Context, ContextParams, Model, ModelParams
from localllm.runtime.loading import open_planner
from localllm.runtime.speed import device_costs
from localllm.store import resolve

N_CTX = (512, 2048, 8192, 16384)
SLOTS = (1, 4, 16)
KV_TYPES = ("f16", "q8_0", "q4_0")
N_DECODED = 24
MIB = 1 << 20


@dataclass(frozen=True)
class MemoryRow:
    """One combination; bytes."""

    model: str
    n_ctx: int
    n_slots: int
    kv_type: str
    predicted: int
    allocated: int

    @property
    def error(self) -> float:
        return self.predicted / self.allocated - 1


@dataclass(frozen=True)
class SpeedRow:
    """Tokens a second of one model."""

    model: str
    predicted: float
    measured: float
    plan_s: float
    """Seconds to plan from the header, the speed not measured."""

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def allocated_bytes(model: Model, plan: LoadPlan) -> int:
    with Context(model, context_params(plan, can_roll_back=model.can_roll_back)) as context:
        return sum(buffer.n_bytes for buffer in (*model.buffers, *context.buffers))


def memory_rows(path: Path, n_threads: int) -> Iterator[MemoryRow]:
    _, planner = open_planner(path, LoadOptions())
    layers = planner(LoadOptions(n_ctx=512)).n_gpu_layers
    with Model(path, ModelParams(n_gpu_layers=layers)) as model:
        for n_ctx, n_slots, kind in product(N_CTX, SLOTS, KV_TYPES):
            options = LoadOptions(
                n_ctx=n_ctx, n_slots=n_slots, kv_type_k=kind, kv_type_v=kind, n_threads=n_threads, gpu_layers=layers
            )
            try:
                plan = planner(options)
            except RequestError:
                continue
            yield MemoryRow(
                path.name, n_ctx, n_slots, kind, plan.estimate.allocated_bytes, allocated_bytes(model, plan)
            )


def decode_s(model: Model, n_threads: int) -> float:
    """Return the seconds of the fastest of some tokens."""
    times = []
    with Context(model, ContextParams(n_ctx=512, n_batch=512, n_threads=n_threads)) as context:
        batch = Batch(512)
        for position in range(N_DECODED):
            batch.clear()
            batch.add(100 + position, position, 0, wants_logits=True)
            started = time.perf_counter()
            assert context.decode(batch) == 0
            times.append(time.perf_counter() - started)
    return min(times)


def speed_row(path: Path, n_threads: int, n_rounds: int) -> SpeedRow:
    options = LoadOptions(n_ctx=512, n_slots=1, n_threads=n_threads)
    started = time.perf_counter()
    shape, planner = open_planner(path, options)
    plan = planner(options)
    plan_s = time.perf_counter() - started
    predicted, measured = 0.0, 0.0
    with Model(path, ModelParams(n_gpu_layers=plan.n_gpu_layers)) as model:
        for _ in range(n_rounds):
            predicted = max(predicted, forecast_tok_s(shape, plan, n_threads))
            measured = max(measured, 1 / decode_s(model, n_threads))
    return SpeedRow(path.name, predicted, measured, plan_s)


def forecast_tok_s(shape: ModelShape, plan: LoadPlan, n_threads: int) -> float:
    costs = device_costs(shape, n_threads, again=True)
    return forecast(shape, plan, costs.cpu, costs.gpus).decode_tok_s


def tiny_models(folder: Path) -> list[Path]:
    from tests.calibrate.tiny_moe import write_tiny_moe
    from tests.tiny_model import write_tiny_model

    window = {"gemma3.attention.sliding_window": 128}
    windowed = write_tiny_model(folder / "window.gguf", arch="gemma3", extra=window, n_layer=6, n_ctx=16384)
    return [windowed, write_tiny_moe(folder / "experts.gguf", n_embd=64, n_ff=128)]


def show_memory(rows: list[MemoryRow]) -> None:
    print(f"{'model':40} {'n':>4} {'median':>8} {'least':>8} {'most':>8}")
    for name in dict.fromkeys(row.model for row in rows):
        errors = [row.error for row in rows if row.model == name]
        print(f"{name:40} {len(errors):4} {statistics.median(errors):8.2%} {min(errors):8.2%} {max(errors):8.2%}")
    beyond = [row for row in rows if abs(row.error) > 0.05]
    print(f"{len(rows)} combinations, {len(beyond)} beyond 5 %")
    for row in beyond:
        print(f"  {row} {row.error:.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="names or paths")
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--speed", action="store_true", help="compare tokens a second, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    paths = [resolve(ref) for ref in arguments.models or [None]]
    introduce(paths[0])
    with tempfile.TemporaryDirectory() as folder:
        models = [*paths, *([] if arguments.models else tiny_models(Path(folder)))]
        memory = [row for path in models for row in memory_rows(path, arguments.threads)]
        show_memory(memory)
    speed = [speed_row(path, arguments.threads, arguments.rounds) for path in paths] if arguments.speed else []
    for row in speed:
        print(
            f"{row.model}: foretold {row.predicted:.1f} t/s, decoded {row.measured:.1f} ({row.error:+.1%}); "
            f"planned in {row.plan_s:.3f} s"
        )
    if arguments.json:
        fields = {"memory": [asdict(row) for row in memory], "speed": [asdict(row) for row in speed]}
        arguments.json.write_text(json.dumps(fields, indent=1) + "\n")


if __name__ == "__main__":
    main()
