"""Quantizing a model's file: what is asked for checked first, then calibrated where the method needs it, then made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from localllm.calibrate import MomentFolder
from localllm.errors import RequestError
from localllm.gguf import GGUFHeader, read_header
from localllm.hardware import n_compute_threads
from localllm.hardware.blas import blas_threads
from localllm.quantize import (
    Imatrix,
    Mix,
    MixOptions,
    Progress,
    Quantized,
    Rtn,
    Workers,
    check_imatrix,
    check_source,
    check_target,
    file_type,
    imatrix_pairs,
    plan_mix,
    quantize,
    read_imatrix,
)
from localllm.quantize.gptq_method import Gptq
from localllm.quantize.method import Method
from localllm.quantize.moments import Factors
from localllm.store.fingerprint import fingerprint
from localllm.workshop.calibration import CalibrationRequest, CalibrationWatcher, calibrate_file

METHODS = ("gptq", "rtn")
IMATRIX = "imatrix.gguf"
"""In a folder of second moments, the importance matrix of the same text: it is there once the calibration is done."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What to make."""

    type_name: str = "Q4_K_M"
    method: str = METHODS[0]
    options: MixOptions = field(default_factory=MixOptions)
    imatrix: Path | None = None
    """An importance matrix; None: for gptq that of the calibration, for rtn none."""
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)
    """For gptq. Its folder of second moments stays, and serves again; without one, they are deleted in the end."""
    allow_requantize: bool = False
    may_replace: bool = False
    n_threads: int | None = None


class QuantizeWatcher(CalibrationWatcher, Protocol):
    """Hears of the progress; what it raises ends the work."""

    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None:
        """What each tensor will be, before anything is computed."""

    def quantizing(self, progress: Progress) -> None:
        """So many weights are done."""


@dataclass(frozen=True)
class _Job:
    header: GGUFHeader
    target: Path
    mix: Mix
    watcher: QuantizeWatcher
    n_threads: int

    def run(self, method: Callable[[Workers], Method], imatrix: tuple[Path, Imatrix] | None) -> Quantized:
        more = imatrix_pairs(*imatrix) if imatrix else []
        with Workers(self.n_threads) as workers, blas_threads(1):
            return quantize(
                self.header,
                self.target,
                self.mix,
                method(workers),
                more_pairs=more,
                on_progress=self.watcher.quantizing,
            )


def plan_quantization(source: Path, request: QuantizeRequest) -> tuple[GGUFHeader, Mix, tuple[str, ...]]:
    """Return the source's header, what its tensors would become, and which of them have no importance.

    Raises:
        LocalLLMError: the source, or what is asked for, is not possible.
    """
    header = read_header(source)
    imatrix = None if request.imatrix is None else read_imatrix(request.imatrix)
    has_imatrix = imatrix is not None or request.method == "gptq"
    mix = plan_mix(header, file_type(request.type_name), request.options, has_imatrix=has_imatrix)
    check_source(header, mix, allow_requantize=request.allow_requantize)
    without = () if imatrix is None and has_imatrix else check_imatrix(header, mix, imatrix)
    return header, mix, without


def quantize_file(source: Path, target: Path, request: QuantizeRequest, watcher: QuantizeWatcher) -> Quantized:
    """Make a quantized file of a 16-bit one.

    A run that was stopped goes on where its calibration was when the same is asked for again.

    Raises:
        LocalLLMError: something asked for is not possible, found before anything is computed where that can be.
    """
    header, mix, without = plan_quantization(source, request)
    watcher.planned(header, mix, without)
    check_target(header, target, may_replace=request.may_replace)
    job = _Job(header, target, mix, watcher, request.n_threads or n_compute_threads())
    return _by_gptq(job, request) if request.method == "gptq" else _by_rtn(job, request)


def _by_rtn(job: _Job, request: QuantizeRequest) -> Quantized:
    imatrix = None if request.imatrix is None else read_imatrix(request.imatrix)
    named = None if request.imatrix is None or imatrix is None else (request.imatrix, imatrix)
    return job.run(lambda workers: Rtn(workers, imatrix), named)


def _by_gptq(job: _Job, request: QuantizeRequest) -> Quantized:
    kept = request.calibration.moments
    folder = kept or job.target.with_name(f".{job.target.name}.calibration")
    calibration = replace(request.calibration, moments=folder, n_threads=job.n_threads)
    path = _calibrated(job, request, calibration)
    imatrix, moments = read_imatrix(path), MomentFolder.open(folder)
    check_imatrix(job.header, job.mix, imatrix)
    made = job.run(lambda workers: Gptq(workers, Factors(moments), Rtn(workers, imatrix)), (path, imatrix))
    if kept is None:
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _calibrated(job: _Job, request: QuantizeRequest, calibration: CalibrationRequest) -> Path:
    """Return the importance matrix of a calibration that is done; a folder that was given is taken as it is."""
    folder = calibration.moments
    assert folder is not None
    path = request.imatrix or folder / IMATRIX
    says_nothing = not calibration.files and not calibration.from_self and calibration.n_chunks is None
    if request.calibration.moments is not None and says_nothing and folder.is_dir() and path.exists():
        if MomentFolder.open(folder).key.model != fingerprint(job.header.path):
            raise RequestError(f"{folder} holds the second moments of another model.", hint="Give another folder.")
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"Cannot make {folder}: {error.strerror}.", hint="Check the path of --moments.") from error
    calibrate_file(job.header.path, folder / IMATRIX, calibration, job.watcher)
    return path
