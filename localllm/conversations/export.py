"""Writing conversations to files."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Literal

from localllm.conversations import json_format, markdown
from localllm.conversations.store import ConversationStore
from localllm.errors import RequestError

ExportFormat = Literal["markdown", "json", "messages"]


def to_markdown(store: ConversationStore, conversation_id: int) -> str:
    """Return the path that is shown as Markdown, which `import_file` reads back."""
    return markdown.write(store.conversation(conversation_id), store.path(conversation_id))


def to_json(store: ConversationStore, conversation_id: int) -> str:
    """Return a conversation with all branches as JSON, which `import_file` reads back."""
    return json_format.write(store.conversation(conversation_id), store.all_nodes(conversation_id))


def to_messages(store: ConversationStore, conversation_id: int) -> str:
    """Return the path that is shown as {"messages": [...]}, as OpenAI's API takes it."""
    return json.dumps({"messages": store.messages(conversation_id)}, ensure_ascii=False, indent=2)


def export_text(store: ConversationStore, conversation_id: int, form: ExportFormat) -> str:
    """Return a conversation in one of the formats."""
    return {"markdown": to_markdown, "json": to_json, "messages": to_messages}[form](store, conversation_id)


def format_of(path: Path) -> ExportFormat:
    """Return the format that a file's name asks for: JSON for .json, else Markdown."""
    return "json" if path.suffix.lower() == ".json" else "markdown"


def export_file(
    store: ConversationStore,
    conversation_id: int,
    path: Path,
    *,
    form: ExportFormat | None = None,
    overwrite: bool = False,
) -> None:
    """Write a conversation to a file, whole or not at all.

    Args:
        store: where it is.
        conversation_id: which.
        path: the file.
        form: None: as the file's name asks for.
        overwrite: replace the file if there is one.

    Raises:
        RequestError: no such conversation, the file exists, or cannot be written.
    """
    text = export_text(store, conversation_id, form or format_of(path))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        if not overwrite and os.path.lexists(path):
            raise RequestError(f"{path} exists.", hint="Choose another name, or say that it may be overwritten.")
        with partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text if text.endswith("\n") else text + "\n")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RequestError(f"Cannot write {path}: {error.strerror}.", hint="Check the path.") from error
