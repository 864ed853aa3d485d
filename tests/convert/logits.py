"""llama.cpp's logits of a converted model, as exact as they come: f32 cache, no flash attention, one thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localllm.llama import Batch, Context, ContextParams, LoraAdapter, Model
from localllm.llama.context import DECODE_OK


def logits_with(path: Path, tokens: Sequence[int], adapter: Path | None = None) -> NDArray[np.float32]:
    """Return llama.cpp's logits after each token, with an adapter or without: [n_tokens, n_vocab]."""
    params = ContextParams(
        n_ctx=256, n_outputs_max=len(tokens), n_threads=1, kv_type_k="f32", kv_type_v="f32", flash_attention=False
    )
    batch = Batch(len(tokens))
    batch.add_outputs(tokens, 0, 0)
    with ExitStack() as stack:
        model = stack.enter_context(Model(path))
        adapters = [] if adapter is None else [(stack.enter_context(LoraAdapter(model, adapter)), 1.0)]
        context = stack.enter_context(Context(model, params))
        context.set_adapters(adapters)
        assert context.decode(batch) == DECODE_OK
        return context.logits_rows(batch).copy()
