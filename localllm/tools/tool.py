"""A tool as a server describes it: all of it the server's word, none of it trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localllm.printable import harmless
from localllm.tools.results import bounded
from localllm.tools.schemas import honoured

if TYPE_CHECKING:
    from mcp_types import Tool

MAX_DESCRIPTION_CHARS = 4_000


@dataclass(frozen=True)
class ServerTool:
    """One tool of one server."""

    server: str
    name: str
    """As the server knows it."""
    description: str
    schema: Mapping[str, Any]
    """Of its arguments, as a grammar can enforce it."""
    is_simplified: bool
    """Whether the server's own schema says more."""
    is_read_only: bool | None
    """What the server claims; None where it says nothing."""
    is_destructive: bool | None

    def spec(self, model_name: str) -> dict[str, Any]:
        """Return it as an item of the option `tools`."""
        function = {"name": model_name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}


def read_tool(server: str, tool: Tool) -> ServerTool:
    """Take over what a server says of a tool. Its schema may be compiled for that, which takes milliseconds."""
    hints = tool.annotations
    schema, is_simplified = honoured(tool.input_schema)
    return ServerTool(
        server,
        tool.name,
        bounded(harmless(tool.description or ""), MAX_DESCRIPTION_CHARS),
        schema,
        is_simplified,
        None if hints is None else hints.read_only_hint,
        None if hints is None else hints.destructive_hint,
    )
