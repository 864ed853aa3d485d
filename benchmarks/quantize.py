"""Our quantizer beside llama.cpp's, at equal bytes.

    python benchmarks/quantize.py REF.gguf --work DIR [--types Q4_K_M ...] [--variants gptq: best:method=awq+gptq ...]

REF.gguf is a 16-bit model whose weights lie on no grid. Both sides have the same calibration tokens: llama.cpp's own
quantizer (`llama_model_quantize`) as an importance matrix, ours as second moments besides. Then REF and all files are
open side by side, and read prose, code and conversations that the calibration has not seen: mean and 99 % quantile of
KL(REF ‖ file) in nats, and how often both find the same token likeliest.

DIR keeps what was calibrated and made, so a second run measures only what is new. --variants are ways of ours:

    name:method=awq+gptq,sized=1,sinks=0,gradients=0,refits=1,sweeps=1,groups=5
    name:shrinkage=0.1,damping=0.01,columns=0.5,rows=0.7

sized=1 chooses a type for each tensor, as `localllm quantize --target-size` does; groups=5 calibrates five groups of
layers one after the other, those before it quantized, which reads the text five times and leaves gradients out;
sinks=0 gives K and V the H of all others; gradients, which --kl-chunks collects, count wherever they are there, but
for gradients=0, and then columns and rows are what both sides are shrunken by; shrinkage=1 is the diagonal of H alone;
refits=0 keeps the scales that were searched before the codes were chosen, sweeps=0 the codes as feedback left them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quantize_sequential import sequential_moments
from quantize_texts import eval_sets
from report import introduce

from localllm.evaluate import Comparison, Subject, compare
from localllm.gguf import GGUFHeader, read_header
from localllm.gradients import GradientProgress
from localllm.hardware import n_compute_threads
from localllm.llama import Model, QuantizeParams, quantize_model
from localllm.quantize import Imatrix, Mix, file_type
from localllm.quantize.gptq import Conditioning, Effort
from localllm.quantize.two_sided_method import TwoSidedConditioning
from localllm.workshop import METHODS, Budget, CalibrationRequest, Knobs, QuantizeRequest, calibrate_file, quantize_file

TYPES = ("Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS")
N_CTX = 512


@dataclass(frozen=True)
class Variant:
    """A way of ours."""

    name: str
    method: str = "gptq"
    knobs: Knobs = field(default_factory=Knobs)
    is_sized: bool = False
    """A type for each tensor, in a file no larger than llama.cpp's."""
    n_groups: int = 1
    """Of layers, calibrated one after the other."""

    @classmethod
    def parse(cls, text: str) -> Variant:
        name, _, rest = text.partition(":")
        values = dict(item.split("=") for item in rest.split(",") if item)
        method = values.pop("method", "gptq")
        if method not in METHODS:
            raise argparse.ArgumentTypeError(f"{method} is none of {', '.join(METHODS)}")
        is_sized = values.pop("sized", "0") == "1"
        n_groups = int(values.pop("groups", "1"))
        effort = Effort(int(values.pop("refits", 1)), int(values.pop("sweeps", 1)))
        has_sinks, has_gradients = (values.pop(key, "1") == "1" for key in ("sinks", "gradients"))
        columns, rows = (float(values.pop(key, default)) for key, default in (("columns", "0.5"), ("rows", "0.7")))
        with_gradients = TwoSidedConditioning(Conditioning(columns), Conditioning(rows))
        conditioning = Conditioning(**{key: float(value) for key, value in values.items()})
        return cls(
            name, method, Knobs(conditioning, with_gradients, effort, has_sinks, has_gradients), is_sized, n_groups
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a folder for what is made")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--variants", nargs="+", default=[Variant("gptq")], type=Variant.parse)
    parser.add_argument("--calibration", nargs="+", type=Path, help="text files; the shipped mix by default")
    parser.add_argument("--chunks", type=int, help="of calibration, 512 tokens each; all by default")
    parser.add_argument("--kl-chunks", type=int, default=0, help="of those, for the gradients; 0 collects none")
    parser.add_argument("--eval-chunks", type=int, default=12, help="of each set, 512 tokens each")
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--memory", type=float, default=8, help="GB, for the calibration")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    introduce(args.reference, threads=str(args.threads))
    imatrix = calibrated(args)
    files: dict[str, dict[str, Path]] = {}
    for type_name in args.types:
        theirs = by_llama_cpp(args, type_name, imatrix)
        ours = {variant.name: by_us(args, type_name, variant, theirs) for variant in args.variants}
        files[type_name] = {"llama.cpp": theirs, **ours}
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


def calibrated(args: argparse.Namespace) -> Imatrix:
    """Collect what is to be known of the inputs, or take what a former run left; return the importance matrix."""
    folder, out = calibration_paths(args)
    request = replace(text_of(args), moments=folder, n_kl_chunks=args.kl_chunks)
    started = time.perf_counter()
    made = calibrate_file(args.reference, out, request, Unwatched())
    print(f"calibration: {made.chunks.n_tokens:,} tokens, {time.perf_counter() - started:.0f} s, {peak()}", flush=True)
    return made.imatrix


def text_of(args: argparse.Namespace) -> CalibrationRequest:
    return CalibrationRequest(
        files=tuple(args.calibration or ()),
        n_chunks=args.chunks,
        n_ctx=N_CTX,
        memory_bytes=int(args.memory * 1e9),
        n_threads=args.threads,
    )


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


def by_us(args: argparse.Namespace, type_name: str, variant: Variant, like: Path) -> Path:
    """Make a file as `localllm quantize` does; `like` is llama.cpp's."""
    target = args.work / f"{variant.name}-{args.chunks or 'all'}-{type_name}.gguf"
    if not target.exists():
        folder, imatrix = calibration_paths(args)
        request = QuantizeRequest(
            type_name,
            variant.method,
            imatrix=imatrix,
            calibration=CalibrationRequest(moments=folder),
            n_threads=args.threads,
            budget=Budget(n_bytes=like.stat().st_size) if variant.is_sized else None,
            knobs=variant.knobs,
        )
        started = time.perf_counter()
        if variant.n_groups > 1:
            request = sequential(args, variant, target, request)
        made = quantize_file(args.reference, target, request, Unwatched())
        print(f"{target.name}: {made.n_bytes:,} bytes, {time.perf_counter() - started:.0f} s, {peak()}", flush=True)
    return target


def sequential(args: argparse.Namespace, variant: Variant, target: Path, request: QuantizeRequest) -> QuantizeRequest:
    """Have the moments be those of quantized inputs."""
    folder = target.with_suffix(".moments")

    def make(path: Path, asked: QuantizeRequest) -> None:
        quantize_file(args.reference, path, asked, Unwatched())

    def calibrate(path: Path, moments: Path) -> None:
        calibrate_file(path, moments / "imatrix.gguf", replace(text_of(args), moments=moments), Unwatched())

    sequential_moments(args.reference, request, folder, variant.n_groups, make, calibrate)
    return replace(request, calibration=CalibrationRequest(moments=folder))


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
