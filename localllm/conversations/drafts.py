"""Conversations on their way in: read from a file and checked, not yet in the store."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localllm.chat.messages import ToolCall
from localllm.conversations import rows
from localllm.conversations.records import Conversation, NodeRole, NodeState, storable, tool_calls_json
from localllm.conversations.store import ConversationStore

_MAX_TITLE = 80
_LATEST_S = 253402300800.0
"""The year 10000."""


@dataclass
class DraftNode:
    """A message."""

    role: NodeRole
    text: str = ""
    parent: int | None = None
    """Which of the messages before it comes before it; None: it is a root."""
    reasoning: str = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str | None = None
    model: str | None = None
    state: NodeState = "done"
    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    created_s: float | None = None


@dataclass
class Draft:
    """A conversation."""

    nodes: list[DraftNode]
    title: str = ""
    model: str | None = None
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    draft: str = ""
    leaf: int | None = None
    """Which of the messages is the last that is shown; None: the last of all."""
    created_s: float | None = None
    updated_s: float | None = None
    is_pinned: bool = False
    is_archived: bool = False


def insert(store: ConversationStore, drafts: Sequence[Draft]) -> list[Conversation]:
    """Put conversations into a store: all of them or, if anything fails, none."""
    return store.insert(lambda db: [_insert(db, draft) for draft in drafts])


def seconds(value: object) -> float | None:
    """Return a time that a file tells, if it can be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LATEST_S and math.isfinite(value) else None


def title_of(nodes: Sequence[DraftNode]) -> str:
    """Return a title for messages without one: how the first question begins."""
    asked = next((node.text for node in nodes if node.role == "user" and node.text.strip()), "")
    line = next(iter(asked.strip().splitlines()), "")
    return line if len(line) <= _MAX_TITLE else line[: _MAX_TITLE - 1] + "…"


def _insert(db: sqlite3.Connection, draft: Draft) -> int:
    now_s = time.time()
    times = [node.created_s for node in draft.nodes if node.created_s is not None]
    created_s = draft.created_s if draft.created_s is not None else min(times, default=now_s)
    updated_s = draft.updated_s if draft.updated_s is not None else max(times, default=created_s)
    fields = {
        "title": draft.title or title_of(draft.nodes),
        "model": draft.model,
        "system": draft.system,
        "options": draft.options,
        "draft": draft.draft,
        "is_pinned": draft.is_pinned,
        "is_archived": draft.is_archived,
    }
    values = rows.checked(fields) | {"created_s": created_s, "updated_s": updated_s}
    conversation_id = rows.create(db, values).id
    ids: list[int] = []
    for node in draft.nodes:
        parent_id = None if node.parent is None else ids[node.parent]
        ids.append(rows.insert_node(db, _values(node, conversation_id, parent_id, created_s)))
    if ids:
        leaf_id = ids[-1 if draft.leaf is None else draft.leaf]
        rows.change(db, conversation_id, {"leaf_id": leaf_id})
    return conversation_id


def _values(node: DraftNode, conversation_id: int, parent_id: int | None, created_s: float) -> dict[str, Any]:
    return {
        "conversation_id": conversation_id,
        "parent_id": parent_id,
        "role": node.role,
        "state": "interrupted" if node.state == "writing" else node.state,
        "created_s": created_s if node.created_s is None else node.created_s,
        "model": node.model and storable(node.model),
        "tool_call_id": node.tool_call_id and storable(node.tool_call_id),
        "error": node.error and storable(node.error),
        "facts": rows.json_of(node.facts),
        "tool_calls": storable(tool_calls_json(node.tool_calls)),
        "reasoning": storable(node.reasoning),
        "text": storable(node.text),
    }
