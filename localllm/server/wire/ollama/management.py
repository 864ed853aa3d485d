"""Ollama's requests about models, and what this server answers to those that it does not do."""

from __future__ import annotations

from typing import Any

from localllm.server.errors import Refused
from localllm.server.wire.base import WireModel

_HINTS = {
    "pull": "Start the server with the model's file: localllm serve NAME=PATH.",
    "push": "Copy the model's file instead.",
    "create": "Start the server with the model's file: localllm serve NAME=PATH.",
    "copy": "Give the model one more name when the server starts: localllm serve --alias ALIAS=NAME.",
    "delete": "Stop the server, and delete the model's file.",
}


class ModelRequest(WireModel):
    """A body that names a model; `name` is the older spelling."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = True

    @property
    def wanted(self) -> str | None:
        return self.model or self.name


def not_here(verb: str) -> Refused:
    """Return the refusal of a request that would change which models there are."""
    return Refused(501, f"This server does not {verb} models.", code="not_supported", hint=_HINTS[verb])


def pulled() -> dict[str, Any]:
    """Return the answer to a pull of a model that is here already."""
    return {"status": "success"}
