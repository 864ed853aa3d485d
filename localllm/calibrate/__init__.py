"""Calibration: what the weights of a model are multiplied by while it reads, which is what a quantizer needs."""

from localllm.calibrate.channels import OutlierRule
from localllm.calibrate.corpus import Chunks, Document, cut, read_documents
from localllm.calibrate.folder import Moment, MomentFolder
from localllm.calibrate.gradients import GradientFolder
from localllm.calibrate.kl_aware import GRADIENTS, KlAwareOptions, collect_gradients
from localllm.calibrate.mix import default_chats, default_documents
from localllm.calibrate.sampling import sample_chunks
from localllm.calibrate.work import CalibrationOptions, Progress, calibrate

__all__ = [
    "GRADIENTS",
    "CalibrationOptions",
    "Chunks",
    "Document",
    "GradientFolder",
    "KlAwareOptions",
    "Moment",
    "MomentFolder",
    "OutlierRule",
    "Progress",
    "calibrate",
    "collect_gradients",
    "cut",
    "default_chats",
    "default_documents",
    "read_documents",
    "sample_chunks",
]
