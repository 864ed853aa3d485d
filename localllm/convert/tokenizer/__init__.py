"""Tokenizers: from Hugging Face's files to what llama.cpp computes with."""

from localllm.convert.tokenizer.read import read_tokenizer
from localllm.convert.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer", "read_tokenizer"]
