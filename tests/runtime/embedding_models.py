"""The small models that embed and rank in these tests, and asking a backend for vectors."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localllm.engine.vectors import VectorsEvent
from localllm.runtime import Backend, EmbedRequest, RankRequest
from tests.bert import BertConfig, Checkpoint, random_checkpoint, tiny_vocabulary, write_bert
from tests.tiny_model import write_tiny_model

CONFIG = BertConfig()
VOCABULARY = tiny_vocabulary()
ENCODER: Checkpoint = random_checkpoint(CONFIG, len(VOCABULARY), seed=1)
RERANKER: Checkpoint = random_checkpoint(CONFIG, len(VOCABULARY), seed=2, n_classes=1)
WAIT_S = 120.0


def write_encoder(path: Path, pooling: str = "mean") -> Path:
    return write_bert(path, ENCODER, CONFIG, VOCABULARY, pooling=pooling)


def write_reranker(path: Path) -> Path:
    return write_bert(path, RERANKER, CONFIG, VOCABULARY, pooling="rank", name="tiny-reranker")


def write_generative_reranker(path: Path) -> Path:
    extra = {
        "qwen3.pooling_type": 4,
        "qwen3.classifier.output_labels": ["yes", "no"],
        "tokenizer.chat_template.rerank": "<|im_start|>Q: {query}\nD: {document}<|im_end|>",
    }
    return write_tiny_model(path, arch="qwen3", n_classes=2, n_ctx=512, name="tiny-qwen", extra=extra)


def embed(backend: Backend, inputs: Sequence[str | Sequence[int]], pooling: str | None = None) -> VectorsEvent:
    """Ask for vectors and wait for them."""
    answer: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    texts = tuple(text if isinstance(text, str) else tuple(text) for text in inputs)
    backend.embed(EmbedRequest(inputs=texts, pooling=pooling), answer.put)
    return answer.get(timeout=WAIT_S)


def vectors(backend: Backend, inputs: Sequence[str | Sequence[int]], pooling: str | None = None) -> NDArray[np.float32]:
    event = embed(backend, inputs, pooling)
    assert event.reason == "done", event.error
    return event.vectors


def rank(backend: Backend, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
    answer: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    backend.rank(RankRequest(query=query, documents=tuple(documents)), answer.put)
    event = answer.get(timeout=WAIT_S)
    assert event.reason == "done" and event.width == 1, event.error
    return event.vectors[:, 0]


def token_sequences(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Return random tokens of the tiny BERT, none of them special."""
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(5, len(VOCABULARY), n)] for n in lengths]
