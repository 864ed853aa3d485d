"""What rounding costs: python benchmarks/quantize_cost.py SRC [--types Q4_K_M ...] [--rounds 3] [--json OUT]

Makes each file type of SRC, without an importance matrix, by `localllm.quantize` and by llama.cpp's
`llama_model_quantize`, in turns, each in a process of its own. Printed are the median seconds of each, their ratio with
its interval, and the peak resident memory: llama.cpp maps the source into memory, so its figure holds as much of the
source as the system kept. The two files must be the same, byte for byte. SRC may be quantized already.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from intervals import ratio_interval
from report import PartResult, introduce

from localllm.gguf import read_header
from localllm.hardware import n_compute_threads
from localllm.hardware.peak import peak_rss_bytes
from localllm.llama import QuantizeParams, quantize_model
from localllm.quantize import Rtn, Workers, file_type, plan_mix, quantize
from localllm.store import resolve

TYPES = ("Q8_0", "Q6_K", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
MAKERS = ("localllm", "llama.cpp")


def make(maker: str, source: Path, target: Path, type_name: str, n_threads: int) -> None:
    """Make the file, and print seconds and peak bytes of this process as JSON."""
    kind = file_type(type_name)
    started = time.perf_counter()
    if maker == "llama.cpp":
        params = QuantizeParams(kind.number, n_threads=n_threads, allow_requantize=True)
        quantize_model(source, target, params)
    else:
        header = read_header(source)
        with Workers(n_threads) as workers:
            quantize(header, target, plan_mix(header, kind), Rtn(workers))
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_bytes": peak_rss_bytes()}))


def measure(maker: str, source: Path, target: Path, type_name: str, n_threads: int) -> dict[str, float]:
    """Make the file in a process of its own."""
    command = [sys.executable, __file__, str(source), "--make", maker, str(target), "--types", type_name]
    done = subprocess.run([*command, "--threads", str(n_threads)], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(source: Path, type_name: str, n_rounds: int, n_threads: int) -> PartResult:
    """Make one file type by both, in turns."""
    part = PartResult(type_name)
    runs: dict[str, list[dict[str, float]]] = {maker: [] for maker in MAKERS}
    with TemporaryDirectory() as folder:
        targets = {maker: Path(folder) / f"{maker}.gguf" for maker in MAKERS}
        for index in range(n_rounds):
            for maker in MAKERS if index % 2 else reversed(MAKERS):
                runs[maker].append(measure(maker, source, targets[maker], type_name, n_threads))
        sizes = [target.stat().st_size for target in targets.values()]
        is_same = filecmp.cmp(*targets.values(), shallow=False)
    for maker, own in runs.items():
        seconds = statistics.median(run["seconds"] for run in own)
        peak = max(run["peak_bytes"] for run in own)
        part.add(maker, f"{seconds:.2f} s, peak {peak / 2**20:.0f} MiB")
    pairs = zip(*(runs[maker] for maker in MAKERS), strict=True)
    part.add("seconds, ratio", ratio_interval([a["seconds"] / b["seconds"] for a, b in pairs]))
    part.judge("the same file", "byte for byte", "{:,} and {:,} bytes".format(*sizes), is_same)
    part.raw = dict(runs)
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a name or a path")
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", nargs=2, metavar=("MAKER", "TARGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    source = resolve(args.source)
    if args.make:
        make(args.make[0], source, Path(args.make[1]), args.types[0], args.threads)
        return
    facts = introduce(source, settings=f"rounds {args.rounds}, threads {args.threads}")
    parts = [compare(source, name, args.rounds, args.threads) for name in args.types]
    for part in parts:
        part.print()
    if args.json:
        raw = {"facts": facts, "types": {part.title: part.raw for part in parts}}
        args.json.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(not verdict.holds for part in parts for verdict in part.verdicts))


if __name__ == "__main__":
    main()
