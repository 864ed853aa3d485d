"""Reading conversations from files: ours, ChatGPT's export, and plain lists of messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localllm.conversations import chatgpt, json_format, markdown
from localllm.conversations.drafts import Draft, insert
from localllm.conversations.records import Conversation
from localllm.conversations.store import ConversationStore
from localllm.errors import RequestError
from localllm.text_files import read_text

_HINT = 'Give our JSON or Markdown, {"messages": [...]}, or conversations.json of ChatGPT\'s export.'
_ZIP = b"PK\x03\x04"


def import_file(store: ConversationStore, path: Path) -> list[Conversation]:
    """Take the conversations of a file into the store: all of them or, if anything is wrong, none.

    Raises:
        RequestError: the file cannot be read, or is malformed; the message says where.
    """
    return insert(store, read_file(path))


def read_file(path: Path) -> list[Draft]:
    """Return the conversations of a file.

    Raises:
        RequestError: the file cannot be read, or is malformed; the message says where.
    """
    _refuse_archives(path)
    text = read_text(path)
    if markdown.is_ours(text):
        return [markdown.read(text)]
    if not text.lstrip().startswith(("{", "[")):
        raise RequestError(f"{path} has no conversation that could be read.", hint=_HINT)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {error}.", hint=_HINT) from error
    return _read_json(value, path.name)


def _read_json(value: Any, where: str) -> list[Draft]:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        return [json_format.read_messages({"messages": value}, where)]
    if isinstance(value, list):
        return [_read_one(one, f"{where}[{n}]") for n, one in enumerate(value)]
    return [_read_one(value, where)]


def _read_one(value: Any, where: str) -> Draft:
    if isinstance(value, Mapping):
        if value.get("format") == json_format.FORMAT:
            return json_format.read(value, where)
        if "mapping" in value:
            return chatgpt.read(value, where)
        if "messages" in value:
            return json_format.read_messages(value, where)
    raise RequestError(f"{where} is not a conversation of a kind that is known here.", hint=_HINT)


def _refuse_archives(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(_ZIP)) == _ZIP
    except OSError:
        return
    if is_archive:
        raise RequestError(f"{path} is an archive.", hint="Unpack it, and give conversations.json.")
