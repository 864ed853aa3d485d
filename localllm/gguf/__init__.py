"""GGUF files: the header, checked before llama.cpp sees the file, and what it says about the model."""

from localllm.gguf.adapter import AdapterShape, check_adapter
from localllm.gguf.glance import glance
from localllm.gguf.header import GGUFHeader, read_header, read_part
from localllm.gguf.loadable import check_loadable
from localllm.gguf.problems import printable
from localllm.gguf.shape import ModelShape
from localllm.gguf.summary import MetadataLine, ModelSummary, TensorLine, TypeLine, summarize
from localllm.gguf.tensors import TensorInfo
from localllm.gguf.types import FILE_TYPES, GGML_TYPES, GGML_TYPES_BY_NAME, GGMLType
from localllm.gguf.values import ArrayRef, MetadataValue
from localllm.gguf.weights import Weights

__all__ = [
    "FILE_TYPES",
    "GGML_TYPES",
    "GGML_TYPES_BY_NAME",
    "AdapterShape",
    "ArrayRef",
    "GGMLType",
    "GGUFHeader",
    "MetadataLine",
    "MetadataValue",
    "ModelShape",
    "ModelSummary",
    "TensorInfo",
    "TensorLine",
    "TypeLine",
    "Weights",
    "check_adapter",
    "check_loadable",
    "glance",
    "printable",
    "read_header",
    "read_part",
    "summarize",
]
