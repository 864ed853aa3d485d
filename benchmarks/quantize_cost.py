"""What rounding costs: python benchmarks/quantize_cost.py SRC [--types Q4_K_M ... | all] [--imatrix FILE] [--rounds 3]

Makes each file type of SRC, with or without an importance matrix, by `localllm.quantize` and by llama.cpp's
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
from report import PartResult, count_claims, introduce, write_parts

from localllm.gguf import read_header
from localllm.hardware import n_compute_threads
from localllm.hardware.peak import peak_rss_bytes
from localllm.llama import QuantizeParams, quantize_model
from localllm.quantize import FILE_TYPE_NAMES, Rtn, Workers, file_type, plan_mix, quantize, read_imatrix
from localllm.store import resolve

TYPES = ("Q8_0", "Q6_K", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
MAKERS = ("localllm", "llama.cpp")


def make(maker: str, source: Path, target: Path, type_name: str, imatrix_file: Path | None, n_threads: int) -> None:
    """Make the file, and print seconds and peak bytes of this process as JSON."""
    kind, header = file_type(type_name), read_header(source)
    imatrix = None if imatrix_file is None else read_imatrix(imatrix_file)
    started = time.perf_counter()
    if maker == "llama.cpp":
        known = [] if imatrix is None else [tensor for tensor in header.tensors if tensor.name in imatrix.entries]
        importance = {tensor.name: imatrix.importance(tensor).reshape(-1) for tensor in known if imatrix is not None}
        params = QuantizeParams(kind.number, n_threads=n_threads, allow_requantize=True, imatrix=importance)
        quantize_model(source, target, params)
    else:
        mix = plan_mix(header, kind, has_imatrix=imatrix is not None)
        with Workers(n_threads) as workers:
            quantize(header, target, mix, Rtn(workers, imatrix))
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_bytes": peak_rss_bytes()}))


def measure(
    maker: str, source: Path, target: Path, type_name: str, imatrix_file: Path | None, n_threads: int
) -> dict[str, float]:
    """Make the file in a process of its own."""
    command = [sys.executable, __file__, str(source), "--make", maker, str(target), "--types", type_name]
    command += ["--threads", str(n_threads), *([] if imatrix_file is None else ["--imatrix", str(imatrix_file)])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(source: Path, type_name: str, imatrix_file: Path | None, n_rounds: int, n_threads: int) -> PartResult:
    """Make one file type by both, in turns."""
    part = PartResult(type_name)
    runs: dict[str, list[dict[str, float]]] = {maker: [] for maker in MAKERS}
    with TemporaryDirectory() as folder:
        targets = {maker: Path(folder) / f"{maker}.gguf" for maker in MAKERS}
        for index in range(n_rounds):
            for maker in MAKERS if index % 2 else reversed(MAKERS):
                runs[maker].append(measure(maker, source, targets[maker], type_name, imatrix_file, n_threads))
        sizes = [target.stat().st_size for target in targets.values()]
        is_same = filecmp.cmp(*targets.values(), shallow=False)
    for maker, own in runs.items():
        seconds = statistics.median(run["seconds"] for run in own)
        peak = max(run["peak_bytes"] for run in own)
        part.add(maker, f"{seconds:.2f} s, peak {peak / 2**20:.0f} MiB")
    pairs = zip(*(runs[maker] for maker in MAKERS), strict=True)
    ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
    part.add("seconds, ratio", ratio_interval(ratios) if n_rounds > 1 else f"{ratios[0]:.2f}")
    part.judge("the same file", "byte for byte", "{:,} and {:,} bytes".format(*sizes), is_same)
    part.raw = dict(runs)
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a name or a path")
    parser.add_argument("--types", nargs="+", default=list(TYPES))
    parser.add_argument("--imatrix", type=Path, help="an importance matrix")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", nargs=2, metavar=("MAKER", "TARGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    source = resolve(args.source)
    if args.make:
        make(args.make[0], source, Path(args.make[1]), args.types[0], args.imatrix, args.threads)
        return
    facts = introduce(source, settings=f"rounds {args.rounds}, threads {args.threads}")
    parts: dict[str, PartResult] = {}
    for name in FILE_TYPE_NAMES if args.types == ["all"] else args.types:
        if name == "Q2_K_S" and args.imatrix is None:
            continue  # both refuse it without
        parts[name] = compare(source, name, args.imatrix, args.rounds, args.threads)
        parts[name].print()
        write_parts(args.json, facts, parts)
    sys.exit(count_claims(parts.values()))


if __name__ == "__main__":
    main()
