"""Measuring models: perplexity with its standard error, and KL divergence of two models or two settings of one."""

from localllm.evaluate.chunks import Chunks
from localllm.evaluate.lane import Subject
from localllm.evaluate.measure import compare, perplexity
from localllm.evaluate.results import Comparison, Divergence, Estimate, Evaluation
from localllm.evaluate.text import default_text
from localllm.text_files import read_text

__all__ = [
    "Chunks",
    "Comparison",
    "Divergence",
    "Estimate",
    "Evaluation",
    "Subject",
    "compare",
    "default_text",
    "perplexity",
    "read_text",
]
