"""A typed, thin layer over llama.cpp's C API, and the only place that touches it.

It owns lifetimes: every object here that holds a C pointer is a context manager, frees it once, and refuses use after
that. It knows nothing of scheduling, text formats or policy.
"""

from localllm.llama.adapter import LoraAdapter
from localllm.llama.batch import Batch
from localllm.llama.callbacks import AbortFlag, EndGraph, EvalCallback, TensorView
from localllm.llama.context import Context, ContextParams
from localllm.llama.devices import list_devices
from localllm.llama.library import build_info, cpu_features, last_log_errors
from localllm.llama.memory import KVMemory
from localllm.llama.model import Model, ModelParams
from localllm.llama.quantize import QuantizeParams, quantize_model
from localllm.llama.rpc import add_rpc_servers, supports_rpc
from localllm.llama.sampler import SamplerChain
from localllm.llama.shifting import ShiftFacts, shift_facts
from localllm.llama.types import KV_TYPES, ggml_type_id
from localllm.llama.vocab import Vocab

__all__ = [
    "KV_TYPES",
    "AbortFlag",
    "Batch",
    "Context",
    "ContextParams",
    "EndGraph",
    "EvalCallback",
    "KVMemory",
    "LoraAdapter",
    "Model",
    "ModelParams",
    "QuantizeParams",
    "SamplerChain",
    "ShiftFacts",
    "TensorView",
    "Vocab",
    "add_rpc_servers",
    "build_info",
    "cpu_features",
    "ggml_type_id",
    "last_log_errors",
    "list_devices",
    "quantize_model",
    "shift_facts",
    "supports_rpc",
]
