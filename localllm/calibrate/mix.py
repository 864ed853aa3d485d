"""The text that comes with the program: prose, documentation, code, conversations and other languages.

Some 330 kB, each source under a licence that lets it be shipped; `texts/LICENSES.md` names them. Nothing of it is in
the text that `localllm.evaluate` measures with, not even thirteen words in a row.
"""

from __future__ import annotations

import json
from importlib.resources import files

from localllm.calibrate.corpus import Document

TEXTS = ("prose", "reference", "code_python", "code_other", "languages")
CHATS = "chats.json"

Conversation = list[dict[str, str]]
"""Messages with "role" and "content"."""


def default_documents() -> list[Document]:
    """Return what is plain text."""
    return [Document(name, _read(f"{name}.txt")) for name in TEXTS]


def default_chats() -> list[Conversation]:
    """Return the conversations, which the caller renders in the model's own template."""
    chats: list[Conversation] = json.loads(_read(CHATS))
    return chats


def _read(name: str) -> str:
    return files(__package__).joinpath("texts", name).read_text(encoding="utf-8")
