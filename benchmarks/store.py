"""How long `localllm list` takes: python benchmarks/store.py --model REF [--models 200] [--runs 11] [--json OUT]

Half of the models lie in the Hugging Face cache, a quarter in Ollama's folder, a quarter in our own. Each is the whole
header of MODEL, vocabulary included, without tensors. Each run is a process of its own, from its start to its end: cold
without what is remembered of headers, warm with it. `localllm --help` beside them is what any command takes. CPU
seconds are those of the process, which a busy machine changes less than the wall's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import introduce

from localllm.gguf import read_header
from localllm.store import resolve

COMMIT = "a" * 40


def write_models(home: Path, header: bytes, n_models: int) -> None:
    """Write `n_models` files that differ in their last bytes, into three places."""
    for i in range(n_models):
        data = header + b"%08d" % i
        digest = hashlib.sha256(data).hexdigest()
        if i % 2:
            repo = home / "huggingface" / "hub" / f"models--org--model-{i}-GGUF"
            write(repo / "blobs" / digest, data)
            write(repo / "refs" / "main", COMMIT.encode())
            link = repo / "snapshots" / COMMIT / f"model-{i}-Q4_K_M.gguf"
            link.parent.mkdir(parents=True)
            link.symlink_to(f"../../blobs/{digest}")
        elif i % 4:
            write(home / "ollama" / "blobs" / f"sha256-{digest}", data)
            layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
            manifest = home / "ollama" / "manifests" / "registry.ollama.ai" / "library" / f"model-{i}" / "q4_K_M"
            write(manifest, json.dumps({"schemaVersion": 2, "layers": [layer]}).encode())
        else:
            write(home / "data" / "models" / f"model-{i}-Q4_K_M.gguf", data)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def header_of(path: Path) -> bytes:
    """Return a model's header, with no tensors in it."""
    end = max(end for _, end in read_header(path).metadata_spans.values())
    with path.open("rb") as file:
        data = bytearray(file.read(end))
    data[8:16] = struct.pack("<Q", 0)
    return bytes(data)


def run(home: Path, *arguments: str) -> tuple[float, float, str]:
    """Run a command; return its wall and CPU seconds, and what it wrote."""
    places = {"LOCALLLM_HOME": home, "HF_HOME": home / "huggingface", "OLLAMA_MODELS": home / "ollama", "HOME": home}
    environ = {**os.environ, **{name: str(path) for name, path in places.items()}}
    used, started = cpu_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "localllm", *arguments], env=environ, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - started, cpu_s() - used, done.stdout


def cpu_s() -> float:
    """Return the CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    """Return the median and the extremes of the wall, and the median of CPU seconds."""
    walls = [wall for wall, _ in times]
    return {
        "median_s": statistics.median(walls),
        "min_s": min(walls),
        "max_s": max(walls),
        "median_cpu_s": statistics.median(cpu for _, cpu in times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="whose header the files have; the demo model if left out")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", metavar="OUT", type=Path)
    args = parser.parse_args()
    path = resolve(args.model)
    times: dict[str, list[tuple[float, float]]] = {"help": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        header = header_of(path)
        write_models(home, header, args.models)
        for _ in range(args.runs):
            (home / "cache" / "headers.json").unlink(missing_ok=True)
            for name in times:
                wall, cpu, out = run(home, "--help" if name == "help" else "list")
                assert name == "help" or len(out.splitlines()) >= args.models + 1
                times[name].append((wall, cpu))
    found = {name: summary(taken) for name, taken in times.items()}
    facts = introduce(path, models=f"{args.models}, each of {len(header):,} bytes", runs=str(args.runs))
    for name, row in found.items():
        print(
            f"{name:5} median {row['median_s']:.3f} s ({row['min_s']:.3f} to {row['max_s']:.3f}),"
            f" CPU {row['median_cpu_s']:.3f} s"
        )
    if args.json:
        args.json.write_text(json.dumps({**facts, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
