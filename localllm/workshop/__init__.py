"""The workshop: whole jobs of making models, from files to files, out of what the packages below know."""

from localllm.workshop.bench import Bench, BenchRequest, bench_file
from localllm.workshop.budget import Budget
from localllm.workshop.calibration import Calibration, CalibrationRequest, CalibrationWatcher, calibrate_file
from localllm.workshop.inspection import Inspection, InspectRequest, inspect_file
from localllm.workshop.measuring import (
    MeasuredFile,
    Measurements,
    MeasureRequest,
    MeasureWatcher,
    check_files,
    measure_files,
)
from localllm.workshop.quantization import METHODS, Knobs, QuantizeRequest, QuantizeWatcher, quantize_file
from localllm.workshop.source import SourceWatcher, as_gguf

__all__ = [
    "METHODS",
    "Bench",
    "BenchRequest",
    "Budget",
    "Calibration",
    "CalibrationRequest",
    "CalibrationWatcher",
    "InspectRequest",
    "Inspection",
    "Knobs",
    "MeasureRequest",
    "MeasureWatcher",
    "MeasuredFile",
    "Measurements",
    "QuantizeRequest",
    "QuantizeWatcher",
    "SourceWatcher",
    "as_gguf",
    "bench_file",
    "calibrate_file",
    "check_files",
    "inspect_file",
    "measure_files",
    "quantize_file",
]
