"""What this machine has, and what of a model fits it."""

from localllm.hardware.cpu import n_compute_threads
from localllm.hardware.estimate import ModelShape
from localllm.hardware.kv_types import KV_TYPES
from localllm.hardware.memory import available_ram_bytes
from localllm.hardware.planner import plan_load
from localllm.hardware.sizes import format_bytes
from localllm.hardware.types import AdapterSpec, Device, DeviceKind, LoadOptions, LoadPlan, MemoryEstimate

__all__ = [
    "KV_TYPES",
    "AdapterSpec",
    "Device",
    "DeviceKind",
    "LoadOptions",
    "LoadPlan",
    "MemoryEstimate",
    "ModelShape",
    "available_ram_bytes",
    "format_bytes",
    "n_compute_threads",
    "plan_load",
]
