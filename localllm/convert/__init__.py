"""Hugging Face checkpoints as GGUF files. It knows architectures and tokenizers; nothing of engines."""

from localllm.convert.conversion import Conversion, convert
from localllm.convert.families import known_architectures
from localllm.convert.types import OUTPUT_TYPES, OutputType

__all__ = ["OUTPUT_TYPES", "Conversion", "OutputType", "convert", "known_architectures"]
