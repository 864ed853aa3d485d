"""Gradients of decoder models by NumPy, straight from a GGUF file: which errors in a weight the predictions mind."""

from localllm.gradients.collect import Boundary, GradientOptions, GradientProgress, LayerFactors, collect
from localllm.gradients.decoder import Decoder
from localllm.gradients.fisher import FisherFactors

__all__ = [
    "Boundary",
    "Decoder",
    "FisherFactors",
    "GradientOptions",
    "GradientProgress",
    "LayerFactors",
    "collect",
]
