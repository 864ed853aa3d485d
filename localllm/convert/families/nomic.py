"""nomic-embed-text: BERT with rotary positions and gated layers. config.json has GPT-2's words, or transformers'."""

from __future__ import annotations

import gguf

from localllm.convert.config import Config
from localllm.convert.families.base import Family
from localllm.convert.rope import read_rope

_LEFT_OUT = ("cls.", "pooler.", "embeddings.position_ids")


class NomicBert(Family):
    """nomic-embed-text v1 and v1.5."""

    arch = gguf.MODEL_ARCH.NOMIC_BERT
    is_encoder = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.n_embd = config.count("hidden_size", "n_embd")
        self.n_head = config.count("num_attention_heads", "n_head")
        self.n_ctx = config.count("max_trained_positions", "max_position_embeddings", "n_positions")
        base = config.number("rotary_emb_base", default=1000.0)
        self.rope = read_rope(config, self.n_embd // self.n_head, self.n_ctx, (), base=base)

    def check(self) -> None:
        self.config.demand("activation_function", "swiglu")
        self.config.demand("hidden_act", "silu")
        for key in ("prenorm", "use_rms_norm", "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "causal"):
            self.config.demand(key, False)
        self.config.demand("rotary_emb_fraction", 1.0, 1)
        self.config.demand("rotary_emb_interleaved", False)
        self.config.demand("moe_every_n_layers", 0)

    def source_name(self, name: str) -> str | None:
        name = name.removeprefix("bert.")
        return None if name.startswith(_LEFT_OUT) else name

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(self.n_layer)
        writer.add_context_length(self.n_ctx)
        writer.add_embedding_length(self.n_embd)
        writer.add_feed_forward_length(self.config.count("intermediate_size", "n_inner"))
        writer.add_head_count(self.n_head)
        writer.add_layer_norm_eps(self.config.number("layer_norm_eps", "layer_norm_epsilon", default=1e-12))
        writer.add_causal_attention(False)
        writer.add_token_type_count(self.config.count("type_vocab_size", default=2))
        self.rope.add_metadata(writer)
