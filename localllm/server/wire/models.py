"""How a served model is described."""

from __future__ import annotations

from typing import Any

from localllm.runtime.backend import ModelInfo
from localllm.server.manager import ServedModel


def model_card(model: ServedModel) -> dict[str, Any]:
    """Return a model as OpenAI lists it, with what clients need to know beside: its real context, size and abilities.

    What only loading tells is null until then.
    """
    info = model.llm.info if model.llm is not None and model.is_loaded else None
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.created_s),
        "owned_by": "localllm",
        "aliases": list(model.entry.aliases),
        "state": model.state,
        "load_progress": model.progress if model.state == "loading" else None,
        "pinned": model.pinned,
        "size_bytes": model.entry.file_bytes,
        "context_length": info.n_ctx if info else None,
        "capabilities": list(info.capabilities) if info else None,
        "error": model.error.message if model.error is not None else None,
        "meta": _meta(model) if info else None,
    }


def adapters(info: ModelInfo) -> list[dict[str, Any]]:
    """Return the LoRA adapters as llama-server lists them: the id a request names, the scale where it names none."""
    return [{"id": index, "path": item.name, "scale": item.scale} for index, item in enumerate(info.adapters)]


def _meta(model: ServedModel) -> dict[str, Any]:
    """Return llama-server's `meta`, and what is ours."""
    info = model.loaded.info
    return {
        "n_vocab": info.n_vocab,
        "n_ctx": info.n_ctx,
        "n_ctx_train": info.n_ctx_train,
        "n_params": info.n_params,
        "size": info.size_bytes,
        "memory_bytes": model.memory_bytes,
        "n_slots": info.n_slots,
        "n_gpu_layers": info.n_gpu_layers,
        "architecture": info.architecture,
        "description": info.description,
        "kv_type_k": info.kv_type_k,
        "kv_type_v": info.kv_type_v,
        "adapters": adapters(info),
        "notes": list(info.plan_notes),
    }
