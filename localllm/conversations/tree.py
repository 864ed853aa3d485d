"""The tree of a conversation's messages: its branches, and the path that is shown."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from localllm.conversations.records import NODE_COLUMNS, Node, node_of


@dataclass(frozen=True)
class Tree:
    """Which message follows which; ids rise with time.

    Args:
        parents: of every message, by rising ids.
    """

    parents: dict[int, int | None]

    def children(self) -> dict[int | None, list[int]]:
        """Return the messages that follow each, the oldest first."""
        found: dict[int | None, list[int]] = defaultdict(list)
        for node_id, parent_id in self.parents.items():
            found[parent_id].append(node_id)
        return found

    def path(self, leaf_id: int | None) -> list[int]:
        """Return the ids from a root to a message; for one that is not here, to the newest of all."""
        if leaf_id not in self.parents:
            leaf_id = next(reversed(self.parents), None)
        path: list[int] = []
        seen: set[int] = set()
        while leaf_id is not None and leaf_id in self.parents and leaf_id not in seen:
            path.append(leaf_id)
            seen.add(leaf_id)
            leaf_id = self.parents[leaf_id]
        return path[::-1]

    def newest_below(self, node_id: int) -> int:
        """Return the newest message of those that go back to one; it is a leaf."""
        below = {node_id}
        for child_id, parent_id in self.parents.items():
            if parent_id in below:
                below.add(child_id)
        return max(below)


def tree_of(connection: sqlite3.Connection, conversation_id: int) -> Tree:
    """Read the tree of a conversation, without the texts."""
    rows = connection.execute(
        "SELECT id, parent_id FROM nodes INDEXED BY nodes_of_conversation WHERE conversation_id = ? ORDER BY id",
        (conversation_id,),
    )
    return Tree(dict(rows.fetchall()))


def nodes(connection: sqlite3.Connection, tree: Tree, node_ids: Sequence[int]) -> list[Node]:
    """Read messages of a tree, in the order of their ids."""
    rows = connection.execute(
        f"SELECT {NODE_COLUMNS} FROM nodes WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(node_ids),)
    ).fetchall()
    by_id = {row[0]: row for row in rows}
    siblings = tree.children()
    found = []
    for node_id in node_ids:
        if node_id in by_id:
            beside = siblings[tree.parents[node_id]]
            found.append(node_of(by_id[node_id], len(beside), beside.index(node_id)))
    return found
