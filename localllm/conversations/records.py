"""What a store of conversations holds, as values; rows become these, whatever a damaged file has in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from localllm.chat.messages import FunctionCall, ToolCall

NodeRole = Literal["user", "assistant", "tool"]
NodeState = Literal["writing", "done", "stopped", "length", "failed", "interrupted"]

ROLES: frozenset[str] = frozenset(get_args(NodeRole))
STATES: frozenset[str] = frozenset(get_args(NodeState))


@dataclass(frozen=True)
class Conversation:
    """A conversation, without its messages."""

    id: int
    title: str = ""
    model: str | None = None
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of generations in it; the keys are those of GenerateOptions."""
    leaf_id: int | None = None
    """The last message of the branch that is shown."""
    draft: str = ""
    """What was typed, and not sent."""
    n_messages: int = 0
    """On all branches."""
    created_s: float = 0.0
    updated_s: float = 0.0
    """When a message came last; titles, pins and drafts do not count."""
    is_pinned: bool = False
    is_archived: bool = False


@dataclass(frozen=True)
class Node:
    """One message; a conversation is a tree of them."""

    id: int
    conversation_id: int
    parent_id: int | None
    role: NodeRole
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    model: str | None = None
    """Which answered."""
    state: NodeState = "done"
    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Usage, timings, speculation."""
    created_s: float = 0.0
    n_siblings: int = 1
    """Children of its parent, itself among them."""
    sibling_index: int = 0
    """Which of them it is, the oldest 0."""


@dataclass(frozen=True)
class Hit:
    """A message, or a title, in which a search found something."""

    conversation_id: int
    node_id: int | None
    """None: the title."""
    title: str
    """The conversation's."""
    role: NodeRole | None
    snippet: str
    """One line."""
    spans: tuple[tuple[int, int], ...]
    """What was searched, in `snippet`: start and end."""
    created_s: float


@dataclass(frozen=True)
class SavedPrompt:
    """A prompt that is used again."""

    id: int
    name: str
    text: str
    tags: tuple[str, ...] = ()


CONVERSATION_COLUMNS = (
    "id, title, model, system, options, leaf_id, draft, n_messages, created_s, updated_s, is_pinned, is_archived"
)
NODE_COLUMNS = (
    "id, conversation_id, parent_id, role, state, created_s, model, tool_call_id, error, facts, tool_calls,"
    " reasoning, text"
)


def conversation_of(row: Sequence[Any]) -> Conversation:
    """Return the conversation of a row of CONVERSATION_COLUMNS."""
    (id_, title, model, system, options, leaf_id, draft, n_messages, created_s, updated_s, is_pinned, is_archived) = row
    return Conversation(
        id=id_,
        title=_text(title),
        model=_optional(model),
        system=_optional(system),
        options=_mapping(options),
        leaf_id=leaf_id if isinstance(leaf_id, int) else None,
        draft=_text(draft),
        n_messages=n_messages if isinstance(n_messages, int) else 0,
        created_s=_seconds(created_s),
        updated_s=_seconds(updated_s),
        is_pinned=bool(is_pinned),
        is_archived=bool(is_archived),
    )


def node_of(row: Sequence[Any], n_siblings: int = 1, sibling_index: int = 0) -> Node:
    """Return the message of a row of NODE_COLUMNS."""
    (id_, conversation_id, parent_id, role, state, created_s, model, call_id, error, facts, calls, reasoning, text) = (
        row
    )
    return Node(
        id=id_,
        conversation_id=conversation_id,
        parent_id=parent_id if isinstance(parent_id, int) else None,
        role=role if role in ROLES else "user",
        text=_text(text),
        reasoning=_text(reasoning),
        tool_calls=tool_calls_of(calls),
        tool_call_id=_optional(call_id),
        model=_optional(model),
        state=state if state in STATES else "done",
        error=_optional(error),
        facts=_mapping(facts),
        created_s=_seconds(created_s),
        n_siblings=n_siblings,
        sibling_index=sibling_index,
    )


def tool_calls_json(calls: Sequence[ToolCall]) -> str:
    """Return what is kept of tool calls; nothing for none."""
    return json.dumps([tool_call_dict(call) for call in calls], ensure_ascii=False) if calls else ""


def tool_call_dict(call: ToolCall) -> dict[str, Any]:
    """Return a call in OpenAI's shape."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def tool_calls_of(kept: object) -> tuple[ToolCall, ...]:
    """Return the calls that `tool_calls_json` wrote, leaving out what is not one."""
    if not isinstance(kept, str) or not kept:
        return ()
    try:
        calls = json.loads(kept)
        return tuple(
            ToolCall(
                function=FunctionCall(str(call["function"]["name"]), str(call["function"]["arguments"])),
                id=_optional(call.get("id")),
            )
            for call in calls
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def storable(text: str) -> str:
    """Return text that SQLite takes: half characters and zero bytes become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _optional(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, str) or value == "{}":
        return {}
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
