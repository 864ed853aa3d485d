"""llama-server's /props and /slots."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec

from localllm import __version__
from localllm.engine.request import SamplingParams
from localllm.engine.stats import EngineStats
from localllm.runtime.backend import ModelInfo
from localllm.server.manager import ServedModel


def server_props(model: ServedModel) -> dict[str, Any]:
    """Return what /props says. Of the model's path only the file's name: where it lies is nobody's business."""
    info = model.llm.info if model.llm is not None and model.is_loaded else None
    defaults = msgspec.to_builtins(SamplingParams()) | {"seed": None, "n_predict": -1, "stop": []}
    return {
        "default_generation_settings": {"n_ctx": info.n_ctx if info else None, "params": defaults},
        "total_slots": info.n_slots if info else model.entry.options.n_slots,
        "model_alias": model.name,
        "model_path": PurePath(model.entry.path).name,
        "chat_template": info.chat_template if info else None,
        "bos_token": info.bos_text if info else None,
        "eos_token": info.eos_text if info else None,
        "modalities": {"vision": False, "audio": False},
        "build_info": f"localllm {__version__}",
        "is_sleeping": info is None,
    }


def slot_states(info: ModelInfo, stats: EngineStats) -> list[dict[str, Any]]:
    """Return what /slots says. Slots are not told apart here: the first are those that are busy."""
    return [
        {"id": slot, "n_ctx": info.n_ctx, "speculative": False, "is_processing": slot < stats.n_running}
        for slot in range(info.n_slots)
    ]
