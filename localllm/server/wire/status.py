"""How a running server describes itself."""

from __future__ import annotations

from pydantic import BaseModel, Field

from localllm.engine.stats import EngineStats
from localllm.server.served import ServedModel, State


class ModelStatus(BaseModel):
    """One model now. What only loading tells is null until then."""

    id: str
    state: State
    pinned: bool
    load_progress: float | None = Field(description="The loaded share, 0 to 1, while it loads.")
    size_bytes: int = Field(description="Of the file.")
    memory_bytes: int | None = Field(description="Planned for weights, KV cells and computing.")
    context_length: int | None
    slots: int | None = Field(description="Answers that can run at once.")
    running: int = Field(description="Answers that are being computed.")
    waiting: int = Field(description="Requests that wait for a slot or for cells.")
    requests: int = Field(description="Requests that hold the model, those that wait included.")
    kv_cells: int | None
    kv_cells_used: int | None
    idle_s: float | None = Field(description="Seconds since the last request ended; null while one runs.")
    error: str | None = Field(description="Why it could not be loaded.")


class RequestCounts(BaseModel):
    """The requests of all models."""

    active: int
    refused: int = Field(description="Sent away with 503 since the start.")
    max: int


class ServerStatus(BaseModel):
    """The server now."""

    version: str
    uptime_s: float
    requests: RequestCounts
    models: list[ModelStatus]


def model_status(model: ServedModel, stats: EngineStats | None, now_s: float) -> ModelStatus:
    """Describe a model.

    Args:
        model: which one.
        stats: of its engine, if it is loaded.
        now_s: what `time.monotonic` says.
    """
    info = model.llm.info if model.llm is not None and model.is_loaded else None
    return ModelStatus(
        id=model.name,
        state=model.state,
        pinned=model.pinned,
        load_progress=model.progress if model.state == "loading" else None,
        size_bytes=model.entry.file_bytes,
        memory_bytes=model.memory_bytes if info else None,
        context_length=info.n_ctx if info else None,
        slots=info.n_slots if info else None,
        running=stats.n_running if stats else 0,
        waiting=stats.n_waiting if stats else 0,
        requests=model.n_leases,
        kv_cells=stats.n_cells if stats else None,
        kv_cells_used=stats.n_cells_used if stats else None,
        idle_s=round(now_s - model.last_used_s, 1) if info and not model.n_leases else None,
        error=model.error.message if model.error is not None else None,
    )
