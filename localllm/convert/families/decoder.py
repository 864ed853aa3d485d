"""What decoders with rotary positions and RMS norms share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import gguf

from localllm.convert.config import Config
from localllm.convert.families.base import Family
from localllm.convert.rope import read_rope
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import OutputTensor
from localllm.errors import InvalidCheckpoint

_OUTPUT = "lm_head.weight"


class Decoder(Family):
    """A model that continues text. Missing keys have the defaults that transformers' class for the family has."""

    rope_kinds: ClassVar[tuple[str, ...]] = ("linear", "yarn")
    rope_base: ClassVar[float] = 10000.0
    is_tied: ClassVar[bool] = False
    """Whether the output layer is the embedding where config.json does not say."""
    activation_key: ClassVar[str] = "hidden_act"
    activations: ClassVar[tuple[str, ...]] = ("silu", "swish")
    head_dim_default: ClassVar[int | None] = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.n_embd = config.count("hidden_size")
        self.n_head = config.count("num_attention_heads")
        self.n_head_kv = config.count("num_key_value_heads", default=self.n_head)
        self.head_dim = config.count("head_dim", default=self.head_dim_default or self.n_embd // self.n_head)
        self.n_ctx = config.count("max_position_embeddings")
        self.rope = read_rope(config, self.head_dim, self.n_ctx, self.rope_kinds, base=self.rope_base)
        self.ties_output = config.flag("tie_word_embeddings", default=self.is_tied)

    def check(self) -> None:
        self.config.demand(self.activation_key, *self.activations)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(self.n_layer)
        writer.add_context_length(self.n_ctx)
        writer.add_embedding_length(self.n_embd)
        writer.add_feed_forward_length(self.config.count("intermediate_size"))
        writer.add_head_count(self.n_head)
        writer.add_head_count_kv(self.n_head_kv)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(self.config.number("rms_norm_eps", default=1e-6))
        self.rope.add_metadata(writer)

    def source_name(self, name: str) -> str | None:
        if name.endswith("rotary_emb.inv_freq") or (name == _OUTPUT and self.ties_output):
            return None
        return name

    def computed(self) -> Iterator[OutputTensor]:
        return self.rope.tensors()

    def tensors(self, stored: Mapping[str, StoredTensor]) -> list[OutputTensor]:
        found = super().tensors(stored)
        if self.config.get("tie_word_embeddings") is False and all(tensor.name != "output.weight" for tensor in found):
            raise InvalidCheckpoint(
                f"{_OUTPUT} is missing, and config.json says that the embedding does not stand for it.",
                hint="Download the model again.",
            )
        return found

    def note_window(self, n_window: int | None) -> None:
        """Say what llama.cpp leaves out: it computes these architectures without sliding windows."""
        if n_window is not None and n_window < self.n_ctx:
            self.notes.append(
                f"Its layers look back over {n_window:,} tokens, and llama.cpp's over all: "
                f"answers to longer prompts differ from transformers'."
            )
