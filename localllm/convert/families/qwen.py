"""Qwen2 and 2.5 (biases on Q, K and V), Qwen3 (norms on Q and K), and Qwen3 with experts."""

from __future__ import annotations

import gguf

from localllm.convert.config import Config
from localllm.convert.families.decoder import Decoder


class Qwen2(Decoder):
    """Qwen2 and Qwen2.5."""

    arch = gguf.MODEL_ARCH.QWEN2

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.flag("use_sliding_window"):
            self.note_window(config.count("sliding_window"))


class Qwen3(Qwen2):
    """Qwen3."""

    arch = gguf.MODEL_ARCH.QWEN3
    head_dim_default = 128


class Qwen3Moe(Qwen3):
    """Qwen3 with experts in every layer."""

    arch = gguf.MODEL_ARCH.QWEN3MOE

    def check(self) -> None:
        super().check()
        self.config.demand("decoder_sparse_step", 1)
        self.config.demand("mlp_only_layers", [])
        self.config.demand("norm_topk_prob", True, missing=False)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        super().add_metadata(writer)
        writer.add_expert_count(self.config.count("num_experts", "num_local_experts"))
        writer.add_expert_used_count(self.config.count("num_experts_per_tok", default=8))
        writer.add_expert_feed_forward_length(self.config.count("moe_intermediate_size"))
