"""Our JSON, with all branches, and the plain {"messages": [...]} that every API speaks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from localllm.chat.messages import ToolCall, parse_messages
from localllm.conversations.drafts import Draft, DraftNode, seconds
from localllm.conversations.records import Conversation, Node, NodeRole, NodeState, tool_call_dict
from localllm.errors import RequestError

FORMAT = "localllm.conversation"
VERSION = 1
_HINT = "Export it again, or mend the file there."


class _Node(msgspec.Struct):
    """A message in the file; ids have a meaning only there."""

    id: int
    role: NodeRole
    parent_id: int | None = None
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    model: str | None = None
    state: NodeState = "done"
    error: str | None = None
    facts: dict[str, Any] = {}
    created_s: float | None = None


class _File(msgspec.Struct):
    """The whole file."""

    format: Literal["localllm.conversation"]
    version: int
    nodes: list[_Node]
    title: str = ""
    model: str | None = None
    system: str | None = None
    options: dict[str, Any] = {}
    draft: str = ""
    leaf_id: int | None = None
    created_s: float | None = None
    updated_s: float | None = None
    is_pinned: bool = False
    is_archived: bool = False


def write(conversation: Conversation, nodes: Sequence[Node]) -> str:
    """Return our JSON."""
    about = {
        "format": FORMAT,
        "version": VERSION,
        "title": conversation.title,
        "model": conversation.model,
        "system": conversation.system,
        "options": dict(conversation.options),
        "draft": conversation.draft,
        "leaf_id": conversation.leaf_id,
        "created_s": conversation.created_s,
        "updated_s": conversation.updated_s,
        "is_pinned": conversation.is_pinned,
        "is_archived": conversation.is_archived,
        "nodes": [_node(node) for node in nodes],
    }
    return json.dumps(about, ensure_ascii=False, indent=2)


def read(value: Mapping[str, Any], where: str) -> Draft:
    """Return the conversation of our JSON.

    Raises:
        RequestError: something in it is wrong; the message says where.
    """
    version = value.get("version")
    if isinstance(version, int) and version > VERSION:
        raise RequestError(f"{where} is of a later version ({version}, not {VERSION}).", hint="Update localllm.")
    try:
        file = msgspec.convert(value, _File)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}: {error}.", hint=_HINT) from error
    places: dict[int, int] = {}
    nodes = []
    for n, node in enumerate(file.nodes):
        if node.id in places or (node.parent_id is not None and node.parent_id not in places):
            raise RequestError(f"{where}: $.nodes[{n}]: its id is not new, or its parent not before it.", hint=_HINT)
        nodes.append(_draft_node(node, None if node.parent_id is None else places[node.parent_id]))
        places[node.id] = n
    return Draft(
        nodes,
        title=file.title,
        model=file.model,
        system=file.system,
        options=file.options,
        draft=file.draft,
        leaf=None if file.leaf_id is None else places.get(file.leaf_id),
        created_s=seconds(file.created_s),
        updated_s=seconds(file.updated_s),
        is_pinned=file.is_pinned,
        is_archived=file.is_archived,
    )


def read_messages(value: Mapping[str, Any], where: str) -> Draft:
    """Return the conversation of {"messages": [...]}; title and model may stand beside them.

    Raises:
        RequestError: a message is malformed.
    """
    try:
        messages = parse_messages(_without_pictures(value["messages"]))
    except RequestError as error:
        raise RequestError(f"{where}: {error.message}", hint=error.hint) from error
    system = [message.text for message in messages if message.role in ("system", "developer")]
    nodes: list[DraftNode] = []
    for message in messages:
        if message.role in ("user", "assistant", "tool"):
            nodes.append(
                DraftNode(
                    message.role,
                    message.text,
                    len(nodes) - 1 if nodes else None,
                    reasoning=message.reasoning or "",
                    tool_calls=message.tool_calls,
                    tool_call_id=message.tool_call_id,
                )
            )
    title, model = (value.get(name) for name in ("title", "model"))
    return Draft(
        nodes,
        title=title if isinstance(title, str) else "",
        model=model if isinstance(model, str) else None,
        system="\n\n".join(system) or None,
    )


def _node(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "parent_id": node.parent_id,
        "role": node.role,
        "text": node.text,
        "reasoning": node.reasoning,
        "tool_calls": [tool_call_dict(call) for call in node.tool_calls],
        "tool_call_id": node.tool_call_id,
        "model": node.model,
        "state": node.state,
        "error": node.error,
        "facts": dict(node.facts),
        "created_s": node.created_s,
    }


def _draft_node(node: _Node, parent: int | None) -> DraftNode:
    return DraftNode(
        node.role,
        node.text,
        parent,
        reasoning=node.reasoning,
        tool_calls=node.tool_calls,
        tool_call_id=node.tool_call_id,
        model=node.model,
        state=node.state,
        error=node.error,
        facts=node.facts,
        created_s=seconds(node.created_s),
    )


def _without_pictures(messages: Any) -> Any:
    """Return messages with a note for each part that is not text."""
    if not isinstance(messages, list):
        return messages
    return [
        message | {"content": [_part(part) for part in message["content"]]}
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or "text" in kind:
        return part
    return {"type": "text", "text": f"[{kind.removeprefix('input_').removesuffix('_url')}]"}
