"""Our Markdown: for people to read, with comments, which no viewer shows, that tell how to read it back.

Only the path that is shown is in it. A line of a message that looks like one of the comments gets a backslash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from localllm.chat.messages import ToolCall
from localllm.conversations.drafts import Draft, DraftNode, seconds
from localllm.conversations.records import Conversation, Node, NodeRole, NodeState, tool_call_dict
from localllm.errors import RequestError

VERSION = 1

T = TypeVar("T")

_MARK = "<!-- localllm:"
_MARK_LINE = re.compile(r"<!-- localllm:(\w+)(?: (\{.*\}))? -->\r?")
_LOOKS_LIKE_MARK = re.compile(rf"^(\\*{_MARK})", re.MULTILINE)
_ESCAPED = re.compile(rf"^\\(\\*{_MARK})", re.MULTILINE)
_HEADINGS = {"user": "You", "assistant": "Assistant", "tool": "Tool"}


class _About(msgspec.Struct):
    """What the first comment tells."""

    version: int = VERSION
    title: str = ""
    model: str | None = None
    options: dict[str, Any] = {}
    created_s: float | None = None
    updated_s: float | None = None


class _AboutMessage(msgspec.Struct):
    """What a message's comment tells."""

    role: NodeRole
    model: str | None = None
    state: NodeState = "done"
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    created_s: float | None = None


def is_ours(text: str) -> bool:
    """Say whether a text begins like our Markdown."""
    return f"{_MARK}conversation " in text[:4096]


def write(conversation: Conversation, nodes: Sequence[Node]) -> str:
    """Return the Markdown of a path."""
    about = {
        "version": VERSION,
        "title": conversation.title,
        "model": conversation.model,
        "options": dict(conversation.options),
        "created_s": conversation.created_s,
        "updated_s": conversation.updated_s,
    }
    heading = " ".join(conversation.title.split()) or "Untitled"
    parts = [_mark("conversation", about) + f"\n# {heading}\n"]
    if conversation.system:
        parts.append(_section("system", "## System", conversation.system))
    for node in nodes:
        parts += _message(node)
    return "\n".join(parts)


def read(text: str) -> Draft:
    """Return the conversation of our Markdown.

    Raises:
        RequestError: it is not ours, or was damaged.
    """
    sections = _sections(text)
    if not sections or sections[0][0] != "conversation":
        raise RequestError("This Markdown is not one of our exports.", hint="Give a file that localllm has written.")
    about = _facts(sections[0], _About)
    if about.version > VERSION:
        raise RequestError(f"This Markdown is of a later version ({about.version}).", hint="Update localllm.")
    draft = Draft(
        [],
        title=about.title,
        model=about.model,
        options=about.options,
        created_s=seconds(about.created_s),
        updated_s=seconds(about.updated_s),
    )
    for section in sections[1:]:
        _take(draft, section)
    return draft


_Section = tuple[str, str | None, str, int]
"""Kind, JSON, text, and the number of its first line."""


def _take(draft: Draft, section: _Section) -> None:
    kind, _, text, n_line = section
    if kind == "system":
        draft.system = text
    elif kind == "message":
        about = _facts(section, _AboutMessage)
        draft.nodes.append(
            DraftNode(
                about.role,
                parent=len(draft.nodes) - 1 if draft.nodes else None,
                model=about.model,
                state=about.state,
                tool_calls=about.tool_calls,
                tool_call_id=about.tool_call_id,
                created_s=seconds(about.created_s),
            )
        )
    elif kind in ("text", "reasoning"):
        if not draft.nodes:
            raise RequestError(f"Line {n_line}: text of no message.", hint="Keep the comments as they were written.")
        setattr(draft.nodes[-1], kind, text)


def _message(node: Node) -> list[str]:
    about: dict[str, Any] = {"role": node.role, "created_s": node.created_s}
    if node.model is not None:
        about["model"] = node.model
    if node.state != "done":
        about["state"] = node.state
    if node.tool_calls:
        about["tool_calls"] = [tool_call_dict(call) for call in node.tool_calls]
    if node.tool_call_id is not None:
        about["tool_call_id"] = node.tool_call_id
    who = _HEADINGS[node.role] + (f" ({node.model})" if node.model else "")
    parts = [_mark("message", about) + f"\n## {' '.join(who.split())}\n"]
    if node.reasoning:
        parts.append(_section("reasoning", "<details><summary>Thinking</summary>", node.reasoning))
        parts.append(_mark("end") + "\n</details>\n")
    if node.text or not node.tool_calls:
        parts.append(_section("text", "", node.text))
    for call in node.tool_calls:
        shown = f"{call.function.name} {call.function.arguments}"
        parts.append(_mark("call") + "\n" + "".join(f"    {line}\n" for line in shown.splitlines()))
    return parts


def _section(kind: str, heading: str, text: str) -> str:
    escaped = _LOOKS_LIKE_MARK.sub(r"\\\1", text)
    return f"{_mark(kind)}\n{heading}\n\n{escaped}\n"


def _mark(kind: str, about: dict[str, Any] | None = None) -> str:
    # No > in it, lest one ends the comment.
    told = "" if about is None else " " + json.dumps(about, ensure_ascii=False).replace(">", "\\u003e")
    return f"{_MARK}{kind}{told} -->"


def _sections(text: str) -> list[_Section]:
    found: list[tuple[str, str | None, list[str], int]] = []
    for n_line, line in enumerate(text.split("\n"), 1):
        mark = _MARK_LINE.fullmatch(line)
        if mark is not None:
            found.append((mark.group(1), mark.group(2), [], n_line))
        elif found:
            found[-1][2].append(line)
    return [(kind, about, _body(lines), n_line) for kind, about, lines, n_line in found]


def _body(lines: list[str]) -> str:
    """Return a section's text: without the heading and the blank line below it, and the blank line at its end."""
    body = lines[2:] if len(lines) > 1 and not lines[1].strip() else lines[1:]
    if body and not body[-1].strip():
        body = body[:-1]
    return _ESCAPED.sub(r"\1", "\n".join(body))


def _facts(section: _Section, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(section[1] or "{}", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(
            f"Line {section[3]}: {error}.", hint="Keep the comments as they were written, or export it again."
        ) from error
