"""Making smaller models: which type each tensor gets, and how its weights become that type's blocks."""

from localllm.quantize.checks import check_imatrix, check_source, check_target
from localllm.quantize.file_types import FILE_TYPE_NAMES, FileType, file_type
from localllm.quantize.imatrix import Imatrix, ImatrixEntry, read_imatrix, write_imatrix
from localllm.quantize.metadata import imatrix_pairs
from localllm.quantize.method import Encoder, Method
from localllm.quantize.mix import Mix, MixOptions, plan_mix
from localllm.quantize.pipeline import Progress, Quantized, file_bytes, quantize
from localllm.quantize.rtn import Rtn
from localllm.quantize.scaling import Scales, TensorScale, scaled_imatrix
from localllm.quantize.workers import Workers

__all__ = [
    "FILE_TYPE_NAMES",
    "Encoder",
    "FileType",
    "Imatrix",
    "ImatrixEntry",
    "Method",
    "Mix",
    "MixOptions",
    "Progress",
    "Quantized",
    "Rtn",
    "Scales",
    "TensorScale",
    "Workers",
    "check_imatrix",
    "check_source",
    "check_target",
    "file_bytes",
    "file_type",
    "imatrix_pairs",
    "plan_mix",
    "quantize",
    "read_imatrix",
    "scaled_imatrix",
    "write_imatrix",
]
