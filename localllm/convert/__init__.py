"""Hugging Face checkpoints and LoRA adapters as GGUF files. It knows architectures and tokenizers, not engines."""

from localllm.convert.adapter import convert_adapter
from localllm.convert.conversion import Conversion, convert, stored_type
from localllm.convert.families import known_architectures
from localllm.convert.peft import is_adapter
from localllm.convert.types import OUTPUT_TYPES, OutputType

__all__ = [
    "OUTPUT_TYPES",
    "Conversion",
    "OutputType",
    "convert",
    "convert_adapter",
    "is_adapter",
    "known_architectures",
    "stored_type",
]
