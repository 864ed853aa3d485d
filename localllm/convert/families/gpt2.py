"""GPT-2: learned positions, layer norms with biases, and matrices that are stored transposed (Conv1D)."""

from __future__ import annotations

import gguf

from localllm.convert.families.base import Family
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import OutputTensor, transposed

_PREFIX = "transformer."
_MASKS = (".attn.bias", ".attn.masked_bias")
_TRANSPOSED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")


class GPT2(Family):
    """GPT-2."""

    arch = gguf.MODEL_ARCH.GPT2
    ties_output = True

    def check(self) -> None:
        self.config.demand("activation_function", "gelu_new", "gelu_pytorch_tanh")
        self.config.demand("scale_attn_weights", True)
        self.config.demand("scale_attn_by_inverse_layer_idx", False)
        self.config.demand("add_cross_attention", False)

    def source_name(self, name: str) -> str | None:
        if name.endswith(_MASKS) or name == "lm_head.weight":
            return None
        return name if name.startswith(_PREFIX) else _PREFIX + name

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        return transposed(name, tensor) if name.endswith(_TRANSPOSED) else super().output(name, tensor)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        n_embd = self.config.count("n_embd", "hidden_size")
        writer.add_block_count(self.n_layer)
        writer.add_context_length(self.config.count("n_positions", "n_ctx"))
        writer.add_embedding_length(n_embd)
        writer.add_feed_forward_length(self.config.count("n_inner", default=4 * n_embd))
        writer.add_head_count(self.config.count("n_head", "num_attention_heads"))
        writer.add_layer_norm_eps(self.config.number("layer_norm_epsilon", default=1e-5))
