"""XLM-RoBERTa as an embedder (bge-m3, multilingual-e5) or, with a classifier, as a reranker (bge-reranker-v2-m3).

It is BERT but for its positions, which begin behind that of the padding: llama.cpp counts from 0, so the first rows of
the table, which no text reaches, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from localllm.convert.config import Config
from localllm.convert.families.bert import Bert
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import OutputTensor, changed

_POSITIONS = "position_embd.weight"


class XlmRoberta(Bert):
    """XLM-RoBERTa."""

    prefix = "roberta."
    left_out = (*Bert.left_out, "lm_head.")
    head: ClassVar[Mapping[str, str]] = {"classifier.dense": "cls", "classifier.out_proj": "cls.output"}
    classifier = "XLMRobertaForSequenceClassification"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.n_skipped = config.count("pad_token_id", default=1, least=0) + 1
        """Positions before that of the first token."""
        self.n_ctx -= self.n_skipped

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        if name != _POSITIONS:
            return super().output(name, tensor)
        self.expect_shape(name, tensor.shape, self.n_ctx + self.n_skipped, *tensor.shape[1:])
        return changed(name, tensor, lambda weights: weights[self.n_skipped :], (self.n_ctx, *tensor.shape[1:]))
