"""Conversations that are kept, in one SQLite file, for all threads of all processes."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.chat.messages import ToolCall
from localllm.conversations import rows, writers
from localllm.conversations.database import Database
from localllm.conversations.faults import FAULTS
from localllm.conversations.pending import Clock, Pending
from localllm.conversations.records import (
    ROLES,
    STATES,
    Conversation,
    Hit,
    Node,
    NodeRole,
    NodeState,
    SavedPrompt,
    storable,
    tool_call_dict,
    tool_calls_json,
)
from localllm.conversations.search import search
from localllm.conversations.tree import nodes, tree_of
from localllm.errors import RequestError

FILE_NAME = "conversations.db"
KEPT_DELETED_S = 86400.0
"""After this, what was deleted and not restored is gone for good, also where the program was killed before."""
_PATIENCE_S = 30.0
"""How long what waits goes on waiting for another process that has the file locked."""


class ConversationStore:
    """Conversations, each a tree of messages, of which one path is shown.

    Every method is quick and may be called from any thread. None raises for a bad file or disk: `notice` says what
    happened, and `is_writable` whether what is done now outlasts the program.
    """

    def __init__(self, path: Path) -> None:
        self.file = path
        self.notice: str | None = None
        """What was found wrong last, and what was done."""
        self.on_notice: Callable[[str], None] | None = None
        """Called with every further notice, by any thread."""
        self._database = Database(path, self._tell)
        self._pending = Pending()
        self._flushing = threading.RLock()
        self._held_up_since_s: float | None = None
        self._writing: set[int] = set()
        self._deleted: set[int] = set()
        self._is_closed = False
        with contextlib.suppress(*FAULTS):
            self._database.write(_tidy)
        self._clock = Clock(self._pending, self._flush, self._begin, self._rest)
        self._clock.start()

    @classmethod
    def open(cls, path: Path | None = None) -> ConversationStore:
        """Open the file of this user, or another; a new one if there is none, whatever is wrong with an old one."""
        return cls(path or paths.data_dir() / FILE_NAME)

    @property
    def is_writable(self) -> bool:
        """False: everything works, in memory, and is lost at the end."""
        return self._database.is_file

    def close(self) -> None:
        """Write what waits and close the file; messages that are being written here count as interrupted."""
        if self._is_closed:
            return
        self._clock.end()
        self._flush(patient=False)
        with contextlib.suppress(*FAULTS):
            self._database.write(self._last_words)
        self._database.keep()
        self._is_closed = True
        self._database.close()

    def check(self) -> None:
        """Look for damage that nobody has met yet, and mend it; done once by itself, after the file was opened."""
        self._check()

    def conversations(self, *, with_archived: bool = False, limit: int | None = None) -> list[Conversation]:
        """Return the conversations, pinned ones first, then those with the latest messages."""
        self._sync()
        return self._database.read(lambda db: rows.conversations(db, with_archived, limit))

    def conversation(self, conversation_id: int) -> Conversation:
        """Return one conversation.

        Raises:
            RequestError: there is none of this id.
        """
        self._sync()
        return self._database.read(lambda db: rows.conversation(db, conversation_id))

    def create(
        self,
        *,
        title: str = "",
        model: str | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Begin a conversation."""
        values = rows.checked({"title": title, "model": model, "system": system, "options": options or {}})
        return self._database.write(lambda db: rows.create(db, values))

    def change(self, conversation_id: int, **fields: Any) -> Conversation:
        """Change title, model, system, options, draft, is_pinned, is_archived or leaf_id.

        Raises:
            RequestError: there is no such conversation or field, or no such message in it.
        """
        values = rows.checked(fields)
        self._flush()
        return self._database.write(lambda db: rows.change(db, conversation_id, values))

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation, which `restore` undoes until the store is closed or purged."""
        self._database.write(lambda db: rows.set_deleted(db, conversation_id, time.time()))
        self._deleted.add(conversation_id)

    def restore(self, conversation_id: int) -> Conversation:
        """Undo a deletion."""
        self._database.write(lambda db: rows.set_deleted(db, conversation_id, None))
        self._deleted.discard(conversation_id)
        return self.conversation(conversation_id)

    def purge(self) -> int:
        """Delete for good what was deleted; return how many conversations."""
        self._deleted.clear()
        return self._database.write(lambda db: rows.purge(db, time.time()))

    def path(self, conversation_id: int, leaf_id: int | None = None) -> list[Node]:
        """Return the messages from the root to a leaf: the one that is shown, if no other is named."""
        self._sync()
        return self._database.read(lambda db: rows.path(db, conversation_id, leaf_id))

    def all_nodes(self, conversation_id: int) -> list[Node]:
        """Return the messages of all branches, the oldest first."""
        self._sync()

        def work(db: sqlite3.Connection) -> list[Node]:
            tree = tree_of(db, rows.conversation(db, conversation_id).id)
            return nodes(db, tree, list(tree.parents))

        return self._database.read(work)

    def node(self, node_id: int) -> Node:
        """Return one message.

        Raises:
            RequestError: there is none of this id.
        """
        self._sync()
        return self._database.read(lambda db: rows.node(db, node_id))

    def siblings(self, node_id: int) -> list[Node]:
        """Return the children of a message's parent, the message among them, the oldest first."""
        self._sync()
        return self._database.read(lambda db: rows.siblings(db, node_id))

    def add(
        self,
        conversation_id: int,
        parent_id: int | None,
        role: NodeRole,
        text: str = "",
        *,
        state: NodeState = "done",
        reasoning: str = "",
        tool_calls: Sequence[ToolCall] = (),
        tool_call_id: str | None = None,
        model: str | None = None,
        error: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Node:
        """Add a message below another, or as a root; it becomes the leaf that is shown.

        Raises:
            RequestError: no such conversation, or the parent is not in it; no such role or state.
        """
        if role not in ROLES or state not in STATES:
            raise RequestError(
                f"There is no role {role!r} or no state {state!r}.", hint="Roles: user, assistant, tool."
            )
        values = {
            "parent_id": parent_id,
            "role": role,
            "state": state,
            "model": model and storable(model),
            "tool_call_id": tool_call_id and storable(tool_call_id),
            "error": error and storable(error),
            "facts": rows.json_of(facts or {}),
            "tool_calls": storable(tool_calls_json(tool_calls)),
            "reasoning": storable(reasoning),
            "text": storable(text),
            "writer": writers.this_process() if state == "writing" else None,
        }
        node = self._database.write(lambda db: rows.add(db, conversation_id, values))
        if state == "writing":
            self._writing.add(node.id)
        return node

    def append(self, node_id: int, *, text: str = "", reasoning: str = "") -> None:
        """Take more of a message that is being written; in the file within half a second. Never raises, never waits."""
        if (text or reasoning) and not self._is_closed:
            self._pending.append(node_id, text, reasoning)

    def finish(
        self,
        node_id: int,
        *,
        state: NodeState,
        text: str | None = None,
        reasoning: str | None = None,
        tool_calls: Sequence[ToolCall] = (),
        facts: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Node:
        """Say how a message ended; written at once.

        Args:
            node_id: the message.
            state: how it ended.
            text: all of it; None leaves what was appended.
            reasoning: all of it; None leaves what was appended.
            tool_calls: what the assistant asked for.
            facts: usage, timings, speculation.
            error: why it failed.

        Raises:
            RequestError: there is no such message, or no such state.
        """
        if state not in STATES:
            raise RequestError(f"There is no state {state!r}.", hint=f"There are {', '.join(sorted(STATES))}.")
        self._flush()
        values: dict[str, Any] = {
            "state": state,
            "writer": writers.this_process() if state == "writing" else None,
            "tool_calls": storable(tool_calls_json(tool_calls)),
            "error": error and storable(error),
        }
        if facts is not None:
            values["facts"] = rows.json_of(facts)
        if text is not None:
            values["text"] = storable(text)
        if reasoning is not None:
            values["reasoning"] = storable(reasoning)
        node = self._database.write(lambda db: rows.change_node(db, node_id, values))
        (self._writing.add if state == "writing" else self._writing.discard)(node_id)
        return node

    def remove(self, node_id: int) -> None:
        """Delete a message that nothing follows, such as a question that could not be asked; its parent is shown.

        Raises:
            RequestError: there is no such message, or something follows it.
        """
        self._flush()
        self._database.write(lambda db: rows.remove_node(db, node_id))
        self._writing.discard(node_id)

    def choose(self, conversation_id: int, node_id: int) -> list[Node]:
        """Show the branch of a message, down to its newest leaf; return the path."""
        self._flush()
        return self._database.write(lambda db: rows.choose(db, conversation_id, node_id))

    def save_draft(self, conversation_id: int, text: str) -> None:
        """Take what is typed and not sent; in the file within half a second. Never raises, never waits."""
        if not self._is_closed:
            self._pending.draft(conversation_id, text)

    def messages(self, conversation_id: int) -> list[dict[str, Any]]:
        """Return the system prompt and the path that is shown as `LLM.chat` takes them, without empty answers."""
        system = self.conversation(conversation_id).system
        said = [_message(node) for node in self.path(conversation_id) if _says_something(node)]
        return [{"role": "system", "content": system}, *said] if system else said

    def search(self, query: str, limit: int = 50) -> list[Hit]:
        """Return titles and messages with all words of a query, the best first; no query is an error."""
        self._sync()
        return self._database.read(lambda db: search(db, query, limit))

    def prompts(self) -> list[SavedPrompt]:
        """Return the saved prompts, by name."""
        return self._database.read(rows.prompts)

    def save_prompt(self, name: str, text: str, tags: Sequence[str] = ()) -> SavedPrompt:
        """Save a prompt; one of the same name is replaced.

        Raises:
            RequestError: the name is empty.
        """
        name = storable(name).strip()
        if not name:
            raise RequestError("A prompt needs a name.", hint="Give it one.")
        return self._database.write(lambda db: rows.save_prompt(db, name, storable(text), rows.json_of(list(tags))))

    def delete_prompt(self, prompt_id: int) -> None:
        """Delete a saved prompt."""
        self._database.write(lambda db: db.execute("DELETE FROM prompts WHERE id = ?", (prompt_id,)) and None)

    def insert(self, work: Callable[[sqlite3.Connection], list[int]]) -> list[Conversation]:
        """Do an import in one transaction; return the conversations whose ids it returns."""
        self._flush()
        return self._database.write(lambda db: [rows.conversation(db, id_) for id_ in work(db)])

    def _tell(self, notice: str) -> None:
        self.notice = notice
        if self.on_notice is not None:
            self.on_notice(notice)

    def _sync(self) -> None:
        """Have what waits seen by a read, unless that would make the read wait for another process."""
        if self._held_up_since_s is None:
            self._flush()

    def _flush(self, *, patient: bool = True) -> None:
        """Write what waits; what cannot be written goes on waiting."""
        if self._pending.is_empty:
            return
        with self._flushing:
            taken = self._pending.take()
            if taken.is_empty:
                return
            now_s = time.monotonic()
            held_up_s = 0.0 if self._held_up_since_s is None else now_s - self._held_up_since_s
            try:
                self._database.write(lambda db: rows.append(db, taken), is_patient=patient and held_up_s < _PATIENCE_S)
                self._held_up_since_s = None
            except (*FAULTS, RequestError):
                self._held_up_since_s = self._held_up_since_s or now_s
                self._pending.give_back(taken)

    def _begin(self) -> None:
        writers.this_process()
        self._check()

    def _check(self) -> None:
        with contextlib.suppress(*FAULTS):
            self._database.check()

    def _rest(self) -> None:
        self._database.take_back()

    def _last_words(self, db: sqlite3.Connection) -> None:
        if self._writing:
            writers.interrupt(db, writers.this_process(), self._writing)
        for conversation_id in self._deleted:
            rows.delete(db, conversation_id)


def _tidy(db: sqlite3.Connection) -> None:
    writers.release_abandoned(db)
    rows.purge(db, time.time() - KEPT_DELETED_S)


def _says_something(node: Node) -> bool:
    return node.role != "assistant" or bool(node.text or node.tool_calls)


def _message(node: Node) -> dict[str, Any]:
    message: dict[str, Any] = {"role": node.role, "content": node.text}
    if node.reasoning:
        message["reasoning"] = node.reasoning
    if node.tool_calls:
        message["tool_calls"] = [tool_call_dict(call) for call in node.tool_calls]
    if node.tool_call_id is not None:
        message["tool_call_id"] = node.tool_call_id
    return message
