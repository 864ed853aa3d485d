"""ChatGPT's export: `conversations.json`, a list of trees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from localllm.conversations.drafts import Draft, DraftNode, seconds
from localllm.conversations.records import NodeRole
from localllm.errors import RequestError

_CITATION = re.compile("\ue200.*?\ue201", re.DOTALL)
"""A reference to a page that the export does not have."""
_PICTURES = ("image", "audio", "video")


def read(value: Mapping[str, Any], where: str) -> Draft:
    """Return a conversation of ChatGPT's export, with all branches; what tools said and pictures become notes.

    Raises:
        RequestError: it is not such a tree; the message says where.
    """
    mapping = value.get("mapping")
    if not isinstance(mapping, dict) or not all(isinstance(node, dict) for node in mapping.values()):
        raise _malformed(f"{where}.mapping", "is not an object of messages")
    title = value.get("title")
    draft = Draft(
        [],
        title=title if isinstance(title, str) else "",
        created_s=seconds(value.get("create_time")),
        updated_s=seconds(value.get("update_time")),
        is_archived=value.get("is_archived") is True,
    )
    places: dict[str, int | None] = {}
    for key in _in_order(mapping, where):
        above = places.get(_parent(mapping, key) or "")
        node = _node(mapping[key].get("message"), above, f"{where}.mapping.{key}")
        if node is None:
            places[key] = above
            continue
        places[key] = len(draft.nodes)
        draft.nodes.append(node)
        draft.model = node.model or draft.model
    current = value.get("current_node")
    draft.leaf = places.get(current) if isinstance(current, str) else None
    return draft


def _in_order(mapping: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield the keys, each after its parent, siblings in the order in which the parent names them."""
    children: dict[str, list[str]] = {}
    roots = []
    for key in mapping:
        parent = _parent(mapping, key)
        if parent is None:
            roots.append(key)
        else:
            children.setdefault(parent, []).append(key)
    n_seen = 0
    waiting = roots[::-1]
    while waiting:
        key = waiting.pop()
        n_seen += 1
        yield key
        named = mapping[key].get("children")
        order = {name: n for n, name in enumerate(named) if isinstance(name, str)} if isinstance(named, list) else {}
        below = sorted(children.get(key, ()), key=lambda name: order.get(name, len(order)))
        waiting.extend(reversed(below))
    if n_seen != len(mapping):
        raise _malformed(f"{where}.mapping", "has messages that follow each other in a circle")


def _parent(mapping: Mapping[str, Any], key: str) -> str | None:
    parent = mapping[key].get("parent")
    return parent if isinstance(parent, str) and parent in mapping else None


def _node(message: object, parent: int | None, where: str) -> DraftNode | None:
    """Return a message, or None for one that nobody saw."""
    if message is None:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("author"), dict):
        raise _malformed(where, "has no author")
    about = message.get("metadata")
    about = about if isinstance(about, dict) else {}
    author = message["author"]
    role = author.get("role")
    if role not in ("user", "assistant", "tool") or about.get("is_visually_hidden_from_conversation") is True:
        return None
    text, reasoning = _said(message.get("content"), where)
    text = "\n\n".join(filter(None, (text, *_attachments(about))))
    if not text and not reasoning:
        return None
    told_to = message.get("recipient", "all")
    if role == "tool":
        text = _note("From", author.get("name"), text)
    elif told_to != "all" and role == "assistant":
        text = _note("To", told_to, text)
    kept: NodeRole = "user" if role == "user" else "assistant"
    model = about.get("model_slug") if kept == "assistant" else None
    return DraftNode(
        kept,
        text,
        parent,
        reasoning=reasoning,
        model=model if isinstance(model, str) else None,
        created_s=seconds(message.get("create_time")),
    )


def _said(content: object, where: str) -> tuple[str, str]:
    """Return text and reasoning."""
    if not isinstance(content, dict):
        raise _malformed(where, "has no content")
    thoughts = content.get("thoughts")
    if isinstance(thoughts, list):
        found = [thought["content"] for thought in thoughts if isinstance(thought, dict) and "content" in thought]
        return "", "\n\n".join(map(str, found))
    parts = content.get("parts")
    if isinstance(parts, list):
        return _CITATION.sub("", "\n\n".join(filter(None, map(_part, parts)))), ""
    for name in ("text", "result"):
        if isinstance(content.get(name), str):
            return _CITATION.sub("", content[name]), ""
    return "", ""


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):
        return str(part["text"])
    kind = str(part.get("content_type", ""))
    return f"[{next((name for name in _PICTURES if name in kind), 'attachment')}]"


def _attachments(about: Mapping[str, Any]) -> list[str]:
    found = about.get("attachments")
    if not isinstance(found, list):
        return []
    return [f"[file: {one['name']}]" for one in found if isinstance(one, dict) and isinstance(one.get("name"), str)]


def _note(direction: str, tool: object, text: str) -> str:
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    return f"*{direction} {tool if isinstance(tool, str) else 'a tool'}:*\n\n{indented}"


def _malformed(where: str, what: str) -> RequestError:
    return RequestError(f"{where} {what}.", hint="Give conversations.json as ChatGPT's export has it.")
