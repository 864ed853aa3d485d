"""Our quantizer beside llama.cpp's, at equal bytes.

    python benchmarks/quantize.py REF.gguf --work DIR [--types Q4_K_M ...] [--variants gptq:shrinkage=0.2 ...] [--sized]

REF.gguf is a 16-bit model whose weights lie on no grid. Both sides have the same calibration tokens: llama.cpp's own
quantizer (`llama_model_quantize`) as an importance matrix, ours as second moments besides. Then REF and all files are
open side by side, and read prose, code and conversations that the calibration has not seen: mean and 99 % quantile of
KL(REF ‖ file) in nats, and how often both find the same token likeliest.

DIR keeps what was calibrated and made, so a second run measures only what is new. --variants are ways of ours:
"name:method=gptq,shrinkage=0.1,damping=0.01,sweeps=1,sinks=1"; shrinkage=1 is the diagonal of H alone, sinks=0 gives K
and V the H of all others, method is as on the command line: gptq, rtn, awq or awq+gptq. --sized adds a file with a type
for each tensor, as `localllm quantize --target-size` chooses them, no larger than llama.cpp's.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantize_texts import eval_sets
from report import introduce

from localllm.calibrate import MomentFolder
from localllm.evaluate import Comparison, Subject, compare
from localllm.gguf import GGUFHeader, read_header
from localllm.gradients import GradientProgress
from localllm.hardware import n_compute_threads
from localllm.hardware.blas import blas_threads
from localllm.llama import Model, QuantizeParams, quantize_model
from localllm.quantize import (
    Imatrix,
    Mix,
    Rtn,
    TensorScale,
    Workers,
    file_type,
    plan_mix,
    quantize,
    scaled_imatrix,
)
from localllm.quantize.awq import InputStatistics, plan_folds, search_folds, tensor_scales
from localllm.quantize.gptq import Conditioning
from localllm.quantize.gptq_method import Gptq
from localllm.quantize.moments import Factors, MomentSource
from localllm.quantize.scaling import ScaledMoments
from localllm.quantize.sinks import WithSinks
from localllm.workshop import METHODS, Budget, CalibrationRequest, QuantizeRequest, calibrate_file, quantize_file

TYPES = ("Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS")
N_CTX = 512


@dataclass(frozen=True)
class Variant:
    """A way of ours."""

    name: str
    conditioning: Conditioning = field(default_factory=Conditioning)
    n_sweeps: int = 1
    method: str = "gptq"
    has_sinks: bool = True
    """The first tokens have their share of what is known of keys' and values' inputs."""

    @classmethod
    def parse(cls, text: str) -> Variant:
        name, _, rest = text.partition(":")
        values = dict(item.split("=") for item in rest.split(",") if item)
        n_sweeps, method = int(values.pop("sweeps", 1)), values.pop("method", "gptq")
        has_sinks = values.pop("sinks", "1") == "1"
        if method not in METHODS:
            raise argparse.ArgumentTypeError(f"{method} is none of {', '.join(METHODS)}")
        conditioning = Conditioning(**{key: float(value) for key, value in values.items()})
        return cls(name, conditioning, n_sweeps, method, has_sinks)

    def inputs(self, moments: MomentFolder) -> MomentSource:
        return WithSinks(moments) if self.has_sinks else moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is made")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--variants", nargs="+", default=[Variant("gptq")], type=Variant.parse)
    parser.add_argument("--sized", action="store_true", help="add a mix of our own, no larger than llama.cpp's file")
    parser.add_argument("--calibration", nargs="+", type=Path, help="text files; the shipped mix by default")
    parser.add_argument("--chunks", type=int, help="of calibration, 512 tokens each; all by default")
    parser.add_argument("--eval-chunks", type=int, default=12, help="of each set, 512 tokens each")
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--memory", type=float, default=8, help="GB, for the calibration")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    introduce(args.reference, threads=str(args.threads))
    imatrix, moments = calibrated(args)
    files = {
        type_name: {"llama.cpp": by_llama_cpp(args, type_name, imatrix)}
        | {variant.name: by_us(args, type_name, variant, imatrix, moments) for variant in args.variants}
        for type_name in args.types
    }
    if args.sized:
        for ours in files.values():
            ours["sized"] = sized(args, ours["llama.cpp"])
    found = measure(args, files)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


class Unwatched:
    """Hears of the progress and says nothing (a `QuantizeWatcher`)."""

    def loading(self, share: float) -> None: ...
    def drawing(self, n_done: int, n_total: int) -> None: ...

    def differentiating(self, progress: GradientProgress) -> None: ...
    def reading(self, progress: object) -> None: ...
    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None: ...
    def measuring(self, what: str, n_done: int, n_total: int) -> None: ...
    def not_folded(self, reason: str) -> None: ...
    def quantizing(self, progress: object) -> None: ...


def calibrated(args: argparse.Namespace) -> tuple[Imatrix, MomentFolder]:
    """Collect both, or take what a former run left."""
    folder, out = calibration_paths(args)
    request = CalibrationRequest(
        files=tuple(args.calibration or ()),
        n_chunks=args.chunks,
        n_ctx=N_CTX,
        moments=folder,
        memory_bytes=int(args.memory * 1e9),
        n_threads=args.threads,
    )
    started = time.perf_counter()
    made = calibrate_file(args.reference, out, request, Unwatched())
    print(f"calibration: {made.chunks.n_tokens:,} tokens, {time.perf_counter() - started:.0f} s, {peak()}", flush=True)
    return made.imatrix, MomentFolder.open(folder)


def calibration_paths(args: argparse.Namespace) -> tuple[Path, Path]:
    """Return where the second moments and the importance matrix lie."""
    name = f"calibration-{args.chunks or 'all'}"
    return args.work / name, args.work / f"{name}.imatrix.gguf"


def by_llama_cpp(args: argparse.Namespace, type_name: str, imatrix: Imatrix) -> Path:
    target = args.work / f"llama.cpp-{args.chunks or 'all'}-{type_name}.gguf"
    if not target.exists():
        header = read_header(args.reference)
        importance = {t.name: imatrix.importance(t).reshape(-1) for t in header.tensors if t.name in imatrix.entries}
        started = time.perf_counter()
        params = QuantizeParams(ftype=file_type(type_name).number, n_threads=args.threads, imatrix=importance)
        quantize_model(args.reference, target, params)
        print(f"{target.name}: {target.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s", flush=True)
    return target


def by_us(args: argparse.Namespace, type_name: str, variant: Variant, imatrix: Imatrix, moments: MomentFolder) -> Path:
    target = args.work / f"{variant.name}-{args.chunks or 'all'}-{type_name}.gguf"
    if not target.exists():
        header = read_header(args.reference)
        mix = plan_mix(header, file_type(type_name), has_imatrix=True)
        started = time.perf_counter()
        with Workers(args.threads) as workers, blas_threads(1):
            scales = folded(header, mix, imatrix, moments, workers) if "awq" in variant.method else {}
            rounding = Rtn(workers, scaled_imatrix(imatrix, scales))
            factors = Factors(ScaledMoments(variant.inputs(moments), scales), variant.conditioning)
            feedback = Gptq(workers, factors, rounding, n_sweeps=variant.n_sweeps)
            method = feedback if "gptq" in variant.method else rounding
            made = quantize(header, target, mix, method, scales=scales)
        print(f"{target.name}: {made.n_bytes:,} bytes, {time.perf_counter() - started:.0f} s, {peak()}", flush=True)
    return target


def sized(args: argparse.Namespace, like: Path) -> Path:
    """Make a file of that size with a type for each tensor."""
    target = like.with_name(like.name.replace("llama.cpp", "sized"))
    if not target.exists():
        folder, imatrix = calibration_paths(args)
        request = QuantizeRequest(
            imatrix=imatrix,
            calibration=CalibrationRequest(moments=folder),
            budget=Budget(n_bytes=like.stat().st_size),
            n_threads=args.threads,
        )
        made = quantize_file(args.reference, target, request, Unwatched())
        print(f"{target.name}: {made.n_bytes:,} bytes, {made.elapsed_s:.0f} s after the search, {peak()}", flush=True)
    return target


def folded(
    header: GGUFHeader, mix: Mix, imatrix: Imatrix, moments: MomentFolder, workers: Workers
) -> dict[str, TensorScale]:
    """Search the scales, and print how far each kind of channel is scaled, and what that takes off its loss."""
    started = time.perf_counter()
    choices = search_folds(header, mix, plan_folds(header).folds, InputStatistics(imatrix, moments), workers)
    print(f"  folds searched in {time.perf_counter() - started:.0f} s", flush=True)
    kinds = dict.fromkeys(choice.fold.name.split(".")[-1] for choice in choices)
    for kind in kinds:
        own = [choice for choice in choices if choice.fold.name.endswith(f".{kind}")]
        alpha = sum(choice.alpha for choice in own) / len(own)
        change = sum(min(choice.losses) for choice in own) / sum(choice.losses[0] for choice in own) - 1
        print(f"  {kind:10s} mean alpha {alpha:.2f}, loss {change:+.1%}", flush=True)
    return tensor_scales((choice.fold, choice.scale) for choice in choices if choice.alpha > 0)


def measure(args: argparse.Namespace, files: dict[str, dict[str, Path]]) -> dict[str, Any]:
    """Read the sets with all files at once; print a table for each type."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        reference = stack.enter_context(Model(args.reference))
        paths = [path for ours in files.values() for path in ours.values()]
        subjects = [Subject(stack.enter_context(Model(path)), n_threads=args.threads) for path in paths]
        for name, chunks in eval_sets(
            reference, args.eval_chunks, N_CTX, args.threads, args.work / "chats.json"
        ).items():
            comparison = compare(Subject(reference, n_threads=args.threads), subjects, chunks)
            print(f"{name}: {comparison.reference.n_scored} tokens, perplexity of the reference "
                  f"{comparison.reference.perplexity.value:.2f}", flush=True)  # fmt: skip
            found[name] = rows(files, comparison)
    return found


def rows(files: dict[str, dict[str, Path]], comparison: Comparison) -> dict[str, Any]:
    evaluations = iter(comparison.others)
    found: dict[str, Any] = {}
    for type_name, ours in files.items():
        base = None
        for side, path in ours.items():
            evaluation = next(evaluations)
            divergence = evaluation.divergence
            assert divergence is not None
            kl = divergence.kl.value
            row = {
                "bytes": path.stat().st_size, "kl": kl, "kl_se": divergence.kl.standard_error, "p99": divergence.p99,
                "median": divergence.median, "same_top": divergence.same_top.value,
                "perplexity": evaluation.perplexity.value,
            }  # fmt: skip
            base = base or row
            change = "" if base is row else f"{kl / base['kl'] - 1:+.0%}, 99 % {row['p99'] / base['p99'] - 1:+.0%}"
            print(f"  {type_name:7s} {side:12s} {row['bytes']:>13,} bytes  KLD {kl:.4f} ± {row['kl_se']:.4f}  99 % "
                  f"{row['p99']:.3f}  same top {row['same_top']:.1%}  ppl {row['perplexity']:.2f}  {change}",
                  flush=True)  # fmt: skip
            found.setdefault(type_name, {})[side] = row
    return found


def peak() -> str:
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB so far"


if __name__ == "__main__":
    main()
