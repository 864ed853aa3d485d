"""BERT as an embedder (MiniLM, BGE) or, with a classifier, as a reranker.

The pooler is what the checkpoint was pretrained with and is used only by a classifier; the head that guesses masked
words is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import gguf

from localllm.convert.config import Config
from localllm.convert.families.base import Family


class Bert(Family):
    """BERT."""

    arch = gguf.MODEL_ARCH.BERT
    is_encoder = True
    prefix: ClassVar[str] = "bert."
    """Of the encoder's tensors, in a model with a head."""
    left_out: ClassVar[tuple[str, ...]] = ("cls.", "embeddings.position_ids", "pooler.")
    """Tensors that are not needed, unless they are a classifier's."""
    head: ClassVar[Mapping[str, str]] = {"pooler.dense": "cls", "classifier": "cls.output"}
    """A classifier's layers and their GGUF names."""
    classifier: ClassVar[str] = "BertForSequenceClassification"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.n_ctx = config.count("max_position_embeddings")
        self.is_classifier = self.classifier in (config.sequence("architectures") or ())
        if self.is_classifier:
            self.pooling = gguf.PoolingType.RANK

    def check(self) -> None:
        # llama.cpp's GELU is the approximation by tanh, which is within 0.0005 of BERT's own.
        self.config.demand("hidden_act", "gelu", "gelu_new", "gelu_pytorch_tanh")
        self.config.demand("position_embedding_type", "absolute")
        self.config.demand("is_decoder", False)

    def source_name(self, name: str) -> str | None:
        name = name.removeprefix(self.prefix)
        module, _, kind = name.rpartition(".")
        if module in self.head:
            return f"{self.head[module]}.{kind}" if self.is_classifier else None
        return None if name.startswith(self.left_out) else name

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(self.n_layer)
        writer.add_context_length(self.n_ctx)
        writer.add_embedding_length(self.config.count("hidden_size"))
        writer.add_feed_forward_length(self.config.count("intermediate_size"))
        writer.add_head_count(self.config.count("num_attention_heads"))
        writer.add_layer_norm_eps(self.config.number("layer_norm_eps", default=1e-12))
        writer.add_causal_attention(False)
        writer.add_token_type_count(self.config.count("type_vocab_size", default=2))
        labels = self.config.section("id2label").values
        if self.is_classifier and len(labels) > 1:
            writer.add_classifier_output_labels([str(labels[key]) for key in sorted(labels, key=int)])
