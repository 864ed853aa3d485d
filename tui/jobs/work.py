"""Doing a job, in the worker's process: from a request to a result that JSON can hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.hardware.peak import peak_rss_bytes
from localllm.workshop import (
    BenchRequest,
    Budget,
    CalibrationRequest,
    MeasureRequest,
    as_gguf,
    bench_file,
    check_files,
    measure_files,
    quantize_file,
)
from localllm.workshop import QuantizeRequest as Recipe
from tui.jobs.requests import CompareRequest, EvaluateRequest, JobRequest, QuantizeRequest
from tui.jobs.watcher import StageWatcher

if TYPE_CHECKING:
    from localllm.workshop import MeasuredFile, Measurements

N_KL_CHUNKS = 24
"""Chunks that are read for the gradients of the predictions."""

Tell = Callable[[dict[str, Any]], None]


def do(request: JobRequest, tell: Tell) -> dict[str, Any]:
    """Do what is asked for, and return what came of it: see `tui.jobs.results`.

    Raises:
        LocalLLMError: it is not possible.
    """
    started_s = time.monotonic()
    match request:
        case QuantizeRequest():
            result = _quantize(request, StageWatcher(tell))
        case CompareRequest():
            result = _compare(request, StageWatcher(tell, has_types=True))
        case EvaluateRequest():
            result = _evaluate(request, StageWatcher(tell))
    return {**result, "elapsed_s": time.monotonic() - started_s, "peak_bytes": peak_rss_bytes()}


def _quantize(request: QuantizeRequest, watcher: StageWatcher) -> dict[str, Any]:
    source, target = Path(request.source), Path(request.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(request)
    measure = MeasureRequest(n_threads=request.n_threads)
    with as_gguf(source, target, watcher, may_replace=request.may_replace) as path:
        if request.has_report:
            check_files([path], measure)
        made = quantize_file(path, target, recipe, watcher)
        watcher.is_made()
        files = []
        if request.has_report:
            files = _files(measure_files([path, made.path], measure, watcher))
    return {"path": str(made.path), "n_bytes": made.n_bytes, "bpw": made.bpw, "method": request.method, "files": files}


def _recipe(request: QuantizeRequest) -> Recipe:
    budget = None
    if request.target_bytes is not None or request.target_bpw is not None:
        budget = Budget(request.target_bytes, request.target_bpw)
    return Recipe(
        request.type_name,
        request.method,
        calibration=_calibration(request),
        allow_requantize=request.allow_requantize,
        may_replace=request.may_replace,
        n_threads=request.n_threads,
        budget=budget,
    )


def _calibration(request: QuantizeRequest | CompareRequest) -> CalibrationRequest:
    return CalibrationRequest(
        tuple(map(Path, request.texts)),
        n_chunks=request.n_chunks,
        n_kl_chunks=N_KL_CHUNKS if request.is_kl_aware else 0,
        n_threads=request.n_threads,
    )


def _compare(request: CompareRequest, watcher: StageWatcher) -> dict[str, Any]:
    found = bench_file(
        Path(request.source),
        BenchRequest(
            request.types,
            request.method,
            _calibration(request),
            measure=MeasureRequest(n_threads=request.n_threads, has_speed=True),
        ),
        watcher,
    )
    return {"method": request.method, "files": _files(found.measurements)}


def _evaluate(request: EvaluateRequest, watcher: StageWatcher) -> dict[str, Any]:
    watcher.is_made()
    paths = [Path(request.reference), *map(Path, request.files)]
    return {"files": _files(measure_files(paths, MeasureRequest(n_threads=request.n_threads), watcher))}


def _files(found: Measurements) -> list[dict[str, Any]]:
    return [_file(file) for file in found.files]


def _file(file: MeasuredFile) -> dict[str, Any]:
    divergence, speed = file.evaluation.divergence, file.speed
    values: dict[str, Any] = {
        "name": file.path.name,
        "type": file.type_name,
        "n_bytes": file.n_bytes,
        "bpw": file.bpw,
        "perplexity": _number(file.evaluation.perplexity.value),
        "perplexity_error": _number(file.evaluation.perplexity.standard_error),
    }
    if divergence is not None:
        values |= {
            "kld": _number(divergence.kl.value),
            "kld_error": _number(divergence.kl.standard_error),
            "kld_p99": _number(divergence.p99),
            "same_top": _number(divergence.same_top.value),
        }
    if speed is not None:
        values |= {"prompt_tok_s": speed.prompt.median, "generation_tok_s": speed.generation.median}
    return values


def _number(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None
