"""Quantizing a model's file: what is asked for checked first, then calibrated where that is needed, then made."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from localllm.calibrate import GRADIENTS, GradientFolder, MomentFolder
from localllm.errors import RequestError
from localllm.evaluate import Chunks
from localllm.gguf import GGUFHeader, read_header
from localllm.gguf.new_file import make_folder
from localllm.hardware import n_compute_threads
from localllm.hardware.blas import blas_threads
from localllm.quantize import (
    Imatrix,
    Mix,
    MixOptions,
    Progress,
    Quantized,
    Rtn,
    Scales,
    Workers,
    check_imatrix,
    check_source,
    check_target,
    file_type,
    imatrix_pairs,
    plan_mix,
    quantize,
    read_imatrix,
    scaled_imatrix,
)
from localllm.quantize.awq import FoldPlan, plan_folds
from localllm.quantize.gptq import DEFAULT_EFFORT, Conditioning, Effort
from localllm.quantize.gptq_method import Gptq
from localllm.quantize.metadata import fold_pairs
from localllm.quantize.method import Method
from localllm.quantize.moments import Factors
from localllm.quantize.scaling import ScaledGradients, ScaledMoments
from localllm.quantize.sinks import WithSinks
from localllm.quantize.two_sided_method import TwoSidedConditioning, TwoSidedGptq
from localllm.store.fingerprint import fingerprint
from localllm.workshop.budget import Budget, plan_budget
from localllm.workshop.calibration import CalibrationRequest, CalibrationWatcher, calibrate_file, read_chunks
from localllm.workshop.folding import FoldingWatcher, fold

METHODS = ("gptq", "rtn", "awq", "awq+gptq")
"""How weights are rounded: with error feedback or to nearest; with AWQ's folds before, or without."""
IMATRIX = "imatrix.gguf"
"""In a folder of second moments, the importance matrix of the same text: it is there once the calibration is done."""
N_CHUNKS = 4
"""Of the calibration's text, on which it is measured how much the parts of a model mind errors."""


@dataclass(frozen=True)
class Knobs:
    """What an ablation changes of the feedback; the defaults are what the figures kept (docs/quantizing.md)."""

    conditioning: Conditioning = field(default_factory=Conditioning)
    """Of H, where there are no gradients."""
    with_gradients: TwoSidedConditioning = field(default_factory=TwoSidedConditioning)
    """Of both sides, where there are."""
    effort: Effort = DEFAULT_EFFORT
    has_sinks: bool = True
    """The first tokens have their share of what is known of keys' and values' inputs."""
    has_gradients: bool = True
    """Gradients count where the folder of second moments has them."""


@dataclass(frozen=True)
class QuantizeRequest:
    """What to make."""

    type_name: str = "Q4_K_M"
    method: str = METHODS[0]
    options: MixOptions = field(default_factory=MixOptions)
    imatrix: Path | None = None
    """An importance matrix; None: that of a calibration, if the method or the budget needs one."""
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)
    """Its folder of second moments stays, and serves again; without one, they are deleted in the end."""
    allow_requantize: bool = False
    may_replace: bool = False
    n_threads: int | None = None
    budget: Budget | None = None
    """A size, instead of the mix of `type_name`."""
    knobs: Knobs = field(default_factory=Knobs)

    @property
    def has_feedback(self) -> bool:
        """Whether errors are fed back (GPTQ)."""
        return "gptq" in self.method

    @property
    def has_folds(self) -> bool:
        """Whether channels are scaled first (AWQ)."""
        return "awq" in self.method

    @property
    def has_moments(self) -> bool:
        """Whether second moments are collected, or taken from a folder. Folds do without if they must."""
        given = self.imatrix is None or self.calibration.moments is not None
        return self.has_feedback or (self.has_folds and given)

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibration is needed."""
        return self.has_moments or (self.budget is not None and self.imatrix is None)


class QuantizeWatcher(CalibrationWatcher, FoldingWatcher, Protocol):
    """Hears of the progress; what it raises ends the work."""

    def planned(self, header: GGUFHeader, mix: Mix, without_importance: tuple[str, ...]) -> None:
        """What each tensor will be, before any is made."""

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        """How far the search for types, or for folds, is."""

    def quantizing(self, progress: Progress) -> None:
        """So many weights are done."""


def plan_quantization(source: Path, request: QuantizeRequest) -> tuple[GGUFHeader, Mix, tuple[str, ...]]:
    """Return the source's header, what its tensors would become, and which of them have no importance.

    Raises:
        LocalLLMError: the source, or what is asked for, is not possible.
    """
    return _planned(source, request, _given_imatrix(request))


def _given_imatrix(request: QuantizeRequest) -> Imatrix | None:
    return None if request.imatrix is None else read_imatrix(request.imatrix)


def _planned(
    source: Path, request: QuantizeRequest, imatrix: Imatrix | None
) -> tuple[GGUFHeader, Mix, tuple[str, ...]]:
    header = read_header(source)
    mix = plan_mix(
        header, file_type(request.type_name), request.options, has_imatrix=imatrix is not None or request.is_calibrated
    )
    check_source(header, mix, allow_requantize=request.allow_requantize)
    without = () if imatrix is None and request.is_calibrated else check_imatrix(header, mix, imatrix)
    return header, mix, without


def quantize_file(source: Path, target: Path, request: QuantizeRequest, watcher: QuantizeWatcher) -> Quantized:
    """Make a quantized file of a 16-bit one.

    A run that was stopped goes on where its calibration was when the same is asked for again.

    Raises:
        LocalLLMError: something asked for is not possible, found before anything is computed where that can be.
    """
    imatrix = _given_imatrix(request)
    header, mix, without = _planned(source, request, imatrix)
    check_target(header, target, may_replace=request.may_replace)
    folds = plan_folds(header) if request.has_folds else FoldPlan(())
    n_threads = request.n_threads or n_compute_threads()
    with _folder(target, request) as folder, Workers(n_threads) as workers:
        path = request.imatrix
        if request.is_calibrated:
            path = _calibrated(header, request, imatrix, folder, n_threads, watcher)
            imatrix = imatrix or read_imatrix(path)
        more = imatrix_pairs(path, imatrix) if path is not None and imatrix is not None else []
        more += fold_pairs() if folds.folds else []
        if request.budget is not None:
            assert imatrix is not None
            mix = plan_budget(
                header,
                request.budget,
                request.options,
                imatrix,
                more,
                lambda: _some_chunks(header, request, watcher),
                workers,
                folder,
                watcher.measuring,
            )
        if request.is_calibrated:
            without = check_imatrix(header, mix, imatrix)
        watcher.planned(header, mix, without)
        moments = MomentFolder.open(folder) if request.has_moments else None
        with blas_threads(1):
            scales = {} if imatrix is None else fold(header, mix, folds, imatrix, moments, workers, watcher)
            method = _method(request, workers, imatrix, moments, scales)
            return quantize(header, target, mix, method, scales=scales, more_pairs=more, on_progress=watcher.quantizing)


@contextmanager
def _folder(target: Path, request: QuantizeRequest) -> Iterator[Path]:
    """Where measurements lie: what was asked for, or one beside the target, which goes when the file is made."""
    kept = request.calibration.moments
    folder = kept or target.with_name(f".{target.name}.calibration")
    if request.is_calibrated or request.budget is not None:
        make_folder(folder)
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # one that holds something stays, for the next run
        raise
    if kept is None:
        shutil.rmtree(folder, ignore_errors=True)


def _method(
    request: QuantizeRequest, workers: Workers, imatrix: Imatrix | None, moments: MomentFolder | None, scales: Scales
) -> Method:
    """Return how scaled weights are rounded: what is known of their inputs and outputs is scaled, too."""
    rounding = Rtn(workers, None if imatrix is None else scaled_imatrix(imatrix, scales))
    if not request.has_feedback:
        return rounding
    assert moments is not None, "feedback is calibrated"
    knobs = request.knobs
    of_inputs = ScaledMoments(WithSinks(moments) if knobs.has_sinks else moments, scales)
    one_sided = Gptq(workers, Factors(of_inputs, knobs.conditioning), rounding, knobs.effort)
    if not knobs.has_gradients or not (moments.path / GRADIENTS).is_dir():
        return one_sided
    gradients = GradientFolder.open(moments.path / GRADIENTS)
    if gradients.key.model != moments.key.model:
        raise RequestError(f"{gradients.path} holds the gradients of another model.", hint="Delete it.")
    if not gradients.is_finished:
        raise RequestError(
            f"{gradients.path} lacks the gradients of some layers.",
            hint="Go on with `localllm imatrix --kl-aware`, or delete it.",
        )
    return TwoSidedGptq(
        workers, of_inputs, ScaledGradients(gradients, scales), one_sided, knobs.effort, knobs.with_gradients
    )


def _calibrated(
    header: GGUFHeader,
    request: QuantizeRequest,
    imatrix: Imatrix | None,
    folder: Path,
    n_threads: int,
    watcher: QuantizeWatcher,
) -> Path:
    """Return the importance matrix of a calibration that is done; a folder that was given is taken as it is."""
    wanted = request.calibration
    path = request.imatrix or folder / IMATRIX
    says_nothing = not wanted.files and not wanted.from_self and wanted.n_chunks is None
    is_there = wanted.moments is not None and says_nothing and path.exists() and any(folder.iterdir())
    if is_there and request.has_moments:
        is_there = _has_all(folder, header, imatrix or read_imatrix(path))
    if is_there and (wanted.n_kl_chunks == 0 or _has_gradients(folder)):
        return path
    moments = folder if request.has_moments else None
    may_replace = wanted.moments is None
    asked = replace(wanted, moments=moments, may_replace_moments=may_replace, n_threads=n_threads)
    calibrate_file(header.path, folder / IMATRIX, asked, watcher)
    return path


def _has_gradients(folder: Path) -> bool:
    """Whether a folder holds finished gradients."""
    path = folder / GRADIENTS
    return path.is_dir() and GradientFolder.open(path).is_finished


def _has_all(folder: Path, header: GGUFHeader, imatrix: Imatrix) -> bool:
    """Whether a folder holds the second moments of all that an importance matrix knows; a run may have been stopped.

    Raises:
        RequestError: they are of another model.
    """
    moments = MomentFolder.open(folder)
    if moments.key.model != fingerprint(header.path):
        raise RequestError(f"{folder} holds the second moments of another model.", hint="Give another folder.")
    return all(moments.covers(name) for name in imatrix.entries)


def _some_chunks(header: GGUFHeader, request: QuantizeRequest, watcher: QuantizeWatcher) -> Chunks:
    n_chunks = min(N_CHUNKS, request.calibration.n_chunks or N_CHUNKS)
    read = read_chunks(header.path, replace(request.calibration, n_chunks=n_chunks), watcher)
    return Chunks(read.n_ctx, tuple(tuple(map(int, tokens)) for tokens in read.tokens))
