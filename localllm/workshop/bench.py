"""What a model's file types cost and bring: each made of the 16-bit file, then all measured side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from localllm.errors import RequestError
from localllm.gguf import read_header
from localllm.gguf.new_file import check_room
from localllm.quantize import Quantized, check_target, file_bytes, file_type
from localllm.workshop.calibration import CalibrationRequest
from localllm.workshop.measuring import Measurements, MeasureRequest, check_files, measure_files
from localllm.workshop.quantization import METHODS, QuantizeRequest, QuantizeWatcher, plan_quantization, quantize_file

_PREFIX = "localllm-bench-"
_MOMENTS = "moments"


@dataclass(frozen=True)
class BenchRequest:
    """What to make and to measure."""

    types: tuple[str, ...] = ()
    """File types to make of the model; none: only files that are there are measured."""
    method: str = METHODS[0]
    calibration: CalibrationRequest = field(default_factory=CalibrationRequest)
    """Done once for all types; it is kept if it names a folder of second moments."""
    files: tuple[Path, ...] = ()
    """Other files of the same model."""
    reference: Path | None = None
    """What divergence is measured from; None: the model itself."""
    out: Path | None = None
    """The folder that keeps what is made; None keeps nothing."""
    may_replace: bool = False
    measure: MeasureRequest = field(default_factory=lambda: MeasureRequest(has_speed=True))


@dataclass(frozen=True)
class Bench:
    """What was found."""

    measurements: Measurements
    made: Mapping[Path, Quantized]
    """The files that were made; they are gone unless a folder keeps them."""


def bench_file(source: Path, request: BenchRequest, watcher: QuantizeWatcher) -> Bench:
    """Make a model's file types and measure them, the reference first, then the model and other files.

    What is made lies in a folder for temporary files, which goes in the end, also after an error or Ctrl-C.

    Raises:
        LocalLLMError: something asked for is not possible, found before anything is made where that can be.
    """
    there = [source if request.reference is None else request.reference, source, *request.files]
    types = list(dict.fromkeys(file_type(name).name for name in request.types))
    plans = [_quantize_request(request, name) for name in types]
    sizes = [_planned_bytes(source, plan) for plan in plans]
    check_files(there, request.measure)
    with _folders(request.out) as (folder, temporary):
        targets = {folder / f"{source.stem}-{plan.type_name}.gguf": plan for plan in plans}
        for target, plan in targets.items():
            check_target(read_header(source), target, may_replace=plan.may_replace)
        if targets:
            check_room(next(iter(targets)), sum(sizes))
        made = {
            target: quantize_file(source, target, _calibrated_in(plan, temporary / _MOMENTS), watcher)
            for target, plan in targets.items()
        }
        return Bench(measure_files([*there, *made], request.measure, watcher), made)


def _quantize_request(request: BenchRequest, type_name: str) -> QuantizeRequest:
    return QuantizeRequest(
        type_name,
        request.method,
        calibration=request.calibration,
        may_replace=request.may_replace,
        n_threads=request.measure.n_threads,
    )


def _planned_bytes(source: Path, request: QuantizeRequest) -> int:
    """Return the size of a file to come.

    Raises:
        LocalLLMError: it cannot be made.
    """
    header, mix, _ = plan_quantization(source, request)
    return file_bytes(header, mix)


def _calibrated_in(request: QuantizeRequest, folder: Path) -> QuantizeRequest:
    """Return the request with a folder for its second moments, which the next finds done; one of the user's stays."""
    calibration = request.calibration
    return replace(request, calibration=replace(calibration, moments=calibration.moments or folder))


@contextmanager
def _folders(out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield the folder for what is made, and the one that goes in the end; they are one if nothing is to be kept."""
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(dir=out, prefix=_PREFIX)
    except OSError as error:
        raise RequestError(
            f"Cannot make files in {out or 'the temporary folder'}: {error.strerror}.", hint="Check the path of --out."
        ) from error
    with temporary as name:
        yield out or Path(name), Path(name)
