"""What a call of a tool gave, as text for a model: bounded, and without what commands a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localllm.hardware.sizes import format_bytes
from localllm.printable import harmless

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MAX_CHARS = 30_000
"""Some 8,000 tokens of English: more would push the conversation out of most contexts."""


@dataclass(frozen=True)
class ToolResult:
    """The answer to a call."""

    text: str
    is_error: bool = False


def bounded(text: str, max_chars: int = MAX_CHARS) -> str:
    """Return at most `max_chars` of a text, the beginning and the end, and between them what was left out."""
    if len(text) <= max_chars:
        return text
    head = max_chars * 3 // 4
    tail = max_chars - head
    n_cut = len(text) - max_chars
    return f"{text[:head]}\n[… {n_cut:,} of {len(text):,} characters were left out here …]\n{text[-tail:]}"


def read_result(result: CallToolResult, max_chars: int = MAX_CHARS) -> ToolResult:
    """Return a server's answer as text."""
    parts = [_block(block) for block in result.content]
    if result.structured_content is not None and not _says_the_same(parts, result.structured_content):
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(part for part in parts if part) or "(The tool gave no text.)"
    return ToolResult(bounded(harmless(text), max_chars), bool(result.is_error))


def _says_the_same(parts: Sequence[str], structured: Any) -> bool:
    """Whether the text is the structured content, which servers are asked to give twice."""
    text = "\n".join(parts)
    if not text:
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    return structured in (found, {"result": found}, {"result": text})


def _block(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "image" | "audio":
            return f"[{block.type}, {block.mime_type}, {_size(block.data)}: not shown to the model]"
        case "resource":
            resource = block.resource
            text = getattr(resource, "text", None)
            return str(text) if text is not None else f"[file {resource.uri}, {_size(resource.blob)}: not text]"
        case "resource_link":
            return f"[link to {block.name}: {block.uri}]"
    return f"[{block.type}: not shown to the model]"


def _size(base64: str) -> str:
    return format_bytes(len(base64) * 3 // 4)
