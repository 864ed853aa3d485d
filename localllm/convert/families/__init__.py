"""Architecture families: what their checkpoints call things, and what llama.cpp wants them to be."""

from localllm.convert.families.base import Family
from localllm.convert.families.registry import family_of, family_of_converted, known_architectures

__all__ = ["Family", "family_of", "family_of_converted", "known_architectures"]
