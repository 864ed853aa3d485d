"""A loaded model behind one interface: in this process, or in a worker process of its own."""

from localllm.runtime.backend import (
    AdapterInfo,
    Backend,
    EmbedRequest,
    GrammarSpec,
    ModelInfo,
    RankRequest,
    Sink,
    TextControls,
)
from localllm.runtime.open import open_backend

__all__ = [
    "AdapterInfo",
    "Backend",
    "EmbedRequest",
    "GrammarSpec",
    "ModelInfo",
    "RankRequest",
    "Sink",
    "TextControls",
    "open_backend",
]
