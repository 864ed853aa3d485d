"""The store against a plain model of it, under any order of operations."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localllm.conversations import ConversationStore
from localllm.conversations.export import to_json
from localllm.conversations.importing import import_file

TEXT = st.text(max_size=30)
PICK = st.integers(0, 10**6)


@dataclass
class Plain:
    """What a conversation should be: texts and parents by id, in the order in which they came."""

    texts: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int | None] = field(default_factory=dict)
    leaf: int | None = None
    draft: str = ""
    is_deleted: bool = False

    def path(self, node: int | None) -> list[int]:
        return [] if node is None else [*self.path(self.parents[node]), node]

    def below(self, node: int) -> list[int]:
        return [other for other in self.parents if node in self.path(other)]

    def beside(self, node: int) -> list[int]:
        return [other for other, parent in self.parents.items() if parent == self.parents[node]]


class StoreMachine(RuleBasedStateMachine):
    """Adds, appends, chooses, deletes, opens again; and compares."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "c.db"
        self.store = ConversationStore.open(self.file)
        self.plain: dict[int, Plain] = {}

    def picked(self, pick: int) -> int:
        living = [id_ for id_, plain in self.plain.items() if not plain.is_deleted]
        return living[pick % len(living)]

    def has_conversation(self) -> bool:
        return any(not plain.is_deleted for plain in self.plain.values())

    @rule()
    def create(self) -> None:
        self.plain[self.store.create().id] = Plain()

    @precondition(has_conversation)
    @rule(pick=PICK, parent=PICK, text=TEXT)
    def add(self, pick: int, parent: int, text: str) -> None:
        id_ = self.picked(pick)
        plain = self.plain[id_]
        parent_id = ([None, *plain.texts])[parent % (len(plain.texts) + 1)]
        node = self.store.add(id_, parent_id, "user", text)
        plain.texts[node.id] = text.replace("\0", "\ufffd")
        plain.parents[node.id] = parent_id
        plain.leaf = node.id

    @precondition(has_conversation)
    @rule(pick=PICK, node=PICK, text=TEXT)
    def append(self, pick: int, node: int, text: str) -> None:
        plain = self.plain[self.picked(pick)]
        if plain.texts:
            node_id = list(plain.texts)[node % len(plain.texts)]
            self.store.append(node_id, text=text)
            plain.texts[node_id] += text.replace("\0", "\ufffd")

    @precondition(has_conversation)
    @rule(pick=PICK, node=PICK)
    def choose(self, pick: int, node: int) -> None:
        id_ = self.picked(pick)
        plain = self.plain[id_]
        if plain.texts:
            node_id = list(plain.texts)[node % len(plain.texts)]
            plain.leaf = max(plain.below(node_id))
            assert [one.id for one in self.store.choose(id_, node_id)] == plain.path(plain.leaf)

    @precondition(has_conversation)
    @rule(pick=PICK, text=TEXT)
    def draft(self, pick: int, text: str) -> None:
        id_ = self.picked(pick)
        self.store.save_draft(id_, text)
        self.plain[id_].draft = text.replace("\0", "\ufffd")

    @precondition(has_conversation)
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        id_ = self.picked(pick)
        self.store.delete(id_)
        self.plain[id_].is_deleted = True

    @rule(pick=PICK)
    def restore(self, pick: int) -> None:
        deleted = [id_ for id_, plain in self.plain.items() if plain.is_deleted]
        if deleted:
            id_ = deleted[pick % len(deleted)]
            self.store.restore(id_)
            self.plain[id_].is_deleted = False

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = ConversationStore.open(self.file)
        self.plain = {id_: plain for id_, plain in self.plain.items() if not plain.is_deleted}

    @precondition(has_conversation)
    @rule(pick=PICK)
    def copy_by_export_and_import(self, pick: int) -> None:
        id_ = self.picked(pick)
        file = self.file.with_name("copy.json")
        file.write_text(to_json(self.store, id_), encoding="utf-8")
        copy = import_file(self.store, file)[0]
        old = self.plain[id_]
        ids = dict(zip(old.texts, [node.id for node in self.store.all_nodes(copy.id)], strict=True))
        ids_or_none = {**ids, None: None}
        self.plain[copy.id] = Plain(
            {ids[node]: text for node, text in old.texts.items()},
            {ids[node]: ids_or_none[parent] for node, parent in old.parents.items()},
            ids_or_none[old.leaf],
            old.draft,
        )

    @invariant()
    def is_the_same(self) -> None:
        if not hasattr(self, "plain"):
            return
        living = {id_: plain for id_, plain in self.plain.items() if not plain.is_deleted}
        assert {one.id for one in self.store.conversations()} == set(living)
        for id_, plain in living.items():
            kept = self.store.conversation(id_)
            assert (kept.leaf_id, kept.draft, kept.n_messages) == (plain.leaf, plain.draft, len(plain.texts))
            path = self.store.path(id_)
            assert [(node.id, node.text) for node in path] == [(i, plain.texts[i]) for i in plain.path(plain.leaf)]
            for node in path:
                beside = plain.beside(node.id)
                assert (node.n_siblings, node.sibling_index) == (len(beside), beside.index(node.id))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
