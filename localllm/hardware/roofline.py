"""Tokens a second, foretold: the time that each device takes for its part of the weights, one after the other.

What the weights' products take is measured on this machine with the model's own matrices (`runtime/speed.py`), so both
roofs are in it, memory's and arithmetic's, and which of them is lower need not be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localllm.hardware.estimate import N_CTX_STEP, ModelShape, kv_layer_bytes
from localllm.hardware.kv_types import kv_type
from localllm.hardware.types import LoadPlan

HOST_LAYER_S = 40e-6
"""What llama.cpp does for a layer beside computing: its part of the graph. Measured: 36 to 43 µs with SmolLM2 and
Qwen2.5-Coder-1.5B."""


@dataclass(frozen=True)
class DeviceCosts:
    """Seconds that one device takes, if it had the whole model."""

    decode_layers_s: float
    """All layers' products for one token."""
    decode_output_s: float
    """The output layer's for one token."""
    prefill_layers_s: float
    """All layers' for one token of a long prompt."""
    between_s: float
    """All that layers do between their products, attention left out, for one token."""
    kv_bytes_s: float
    """Bytes of keys and values that attention reads in a second."""

    def scaled(self, factor: float) -> DeviceCosts:
        """Return the same for weights that take `factor` times the bytes; prompts are read at arithmetic's speed."""
        return replace(
            self,
            decode_layers_s=self.decode_layers_s * factor,
            decode_output_s=self.decode_output_s * factor,
        )


@dataclass(frozen=True)
class Forecast:
    """Predicted tokens a second, of one stream."""

    decode_tok_s: float
    """At the beginning of a context."""
    decode_full_tok_s: float
    """At the end of its share of the context."""
    prefill_tok_s: float


def forecast(shape: ModelShape, plan: LoadPlan, cpu: DeviceCosts, gpus: Sequence[DeviceCosts] = ()) -> Forecast:
    """Return how fast a plan will be.

    Args:
        shape: of the model.
        plan: how many layers are on the GPUs, and the context.
        cpu: what the CPU takes.
        gpus: what each GPU takes; layers are taken to be shared out evenly among them.
    """
    share = plan.n_gpu_layers / (shape.n_layer + 1) if gpus else 0.0
    has_output = plan.n_gpu_layers > 0 and bool(gpus)
    parts = [(cpu, 1 - share, 0.0 if has_output else 1.0)]
    parts += [(costs, share / len(gpus), 1 / len(gpus) if has_output else 0.0) for costs in gpus]
    kv_types = (kv_type(plan.kv_type_k), kv_type(plan.kv_type_v))
    cell_bytes = sum(kv_layer_bytes(shape, *kv_types, N_CTX_STEP)) / N_CTX_STEP
    weights_s = sum(
        (costs.decode_layers_s + costs.between_s) * layers + costs.decode_output_s * output
        for costs, layers, output in parts
    )
    start_s = weights_s + HOST_LAYER_S * shape.n_layer
    cell_s = sum(cell_bytes / costs.kv_bytes_s * layers for costs, layers, _ in parts)
    prefill_s = sum((costs.prefill_layers_s + costs.between_s) * layers for costs, layers, _ in parts)
    depth = min(plan.n_ctx, shape.n_ctx_train) // plan.n_slots
    return Forecast(1 / start_s, 1 / (start_s + depth * cell_s), 1 / (prefill_s or start_s))
