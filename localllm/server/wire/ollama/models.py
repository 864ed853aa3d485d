"""How /api/tags, /api/show and /api/ps describe models."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from localllm.server.manager import ServedModel
from localllm.server.model_files import ModelFile
from localllm.server.wire.ollama.values import FOR_EVER_S, parameter_size, tagged, timestamp


def model_tag(model: ServedModel, file: ModelFile) -> dict[str, Any]:
    """Return a model as /api/tags lists it."""
    return {
        **_names(model),
        "modified_at": timestamp(file.modified),
        "size": file.n_bytes,
        "digest": file.digest,
        "details": _details(file),
        "capabilities": capabilities(model, file),
    }


def running_model(model: ServedModel, file: ModelFile, left_s: float) -> dict[str, Any]:
    """Return a loaded model as /api/ps lists it.

    Args:
        model: loaded.
        file: its file.
        left_s: how long it stays if nobody asks for it; math.inf for ever.
    """
    info = model.loaded.info
    stays = timedelta(seconds=min(max(left_s, 0.0), FOR_EVER_S))
    # Layers are of about one size, and the output counts as one more.
    share = min(info.n_gpu_layers / (file.n_layer + 1), 1.0)
    return {
        **_names(model),
        "size": model.memory_bytes,
        "digest": file.digest,
        "details": _details(file),
        "expires_at": timestamp(datetime.now(UTC) + stays),
        "size_vram": int(model.memory_bytes * share),
        "context_length": info.n_ctx,
    }


def model_description(model: ServedModel, file: ModelFile) -> dict[str, Any]:
    """Return a model as /api/show describes it."""
    n_ctx = _n_ctx(model)
    info = dict(file.metadata) | {"general.architecture": file.architecture, "general.parameter_count": file.n_params}
    if n_ctx is not None:
        # Clients size their prompts by this, so it is what the model was loaded with, not what it was trained with.
        info[f"{file.architecture}.context_length"] = n_ctx
    described = {
        "modelfile": f"FROM {model.name}\n",
        "parameters": "" if n_ctx is None else f"num_ctx {n_ctx}",
        "template": file.chat_template,
        "details": _details(file),
        "model_info": info,
        "capabilities": capabilities(model, file),
        "modified_at": timestamp(file.modified),
    }
    license_ = info.get("general.license")
    return described | ({"license": license_} if isinstance(license_, str) else {})


def capabilities(model: ServedModel, file: ModelFile) -> list[str]:
    """Return what a model can do, in Ollama's words; "insert" only once it is loaded, which tells it."""
    if file.can_rank or file.is_encoder:
        return [] if file.can_rank else ["embedding"]
    template = file.chat_template
    found = ["completion"]
    if "tools" in template:
        found.append("tools")
    if "enable_thinking" in template or "reasoning_effort" in template or "<think>" in template:
        found.append("thinking")
    if model.llm is not None and model.llm.info.fim is not None:
        found.append("insert")
    return found


def _names(model: ServedModel) -> dict[str, str]:
    return {"name": tagged(model.name), "model": tagged(model.name)}


def _n_ctx(model: ServedModel) -> int | None:
    return model.entry.options.n_ctx if model.llm is None else model.llm.info.n_ctx


def _details(file: ModelFile) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": file.architecture,
        "families": [file.architecture] if file.architecture else [],
        "parameter_size": parameter_size(file.n_params),
        "quantization_level": file.file_type or "unknown",
    }
