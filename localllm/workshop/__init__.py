"""The workshop: whole jobs of making models, from files to files, out of what the packages below know."""

from localllm.workshop.budget import Budget
from localllm.workshop.calibration import Calibration, CalibrationRequest, CalibrationWatcher, calibrate_file
from localllm.workshop.quantization import METHODS, QuantizeRequest, QuantizeWatcher, quantize_file

__all__ = [
    "METHODS",
    "Budget",
    "Calibration",
    "CalibrationRequest",
    "CalibrationWatcher",
    "QuantizeRequest",
    "QuantizeWatcher",
    "calibrate_file",
    "quantize_file",
]
