"""Full-text search over messages and titles.

Words are found by FTS5's index (unicode61: case and diacritics do not count), all of them in one message, the last one
also as the beginning of a word; "words in quotation marks" are found in that order. FTS5 takes a run of Chinese,
Japanese, Korean or Thai letters for one word, so terms of these, and terms without a letter or digit, are looked for
as they are, in every message: tens of milliseconds for tens of thousands of them.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from localllm.conversations.records import ROLES, Hit, storable

_TERM = re.compile(r'"([^"]*)"?|(\S+)')
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no spaces between words, or join what belongs to a word to it."""
_MAX_TERMS = 32
_N_SNIPPET_WORDS = 20
_MAX_SNIPPET = 200
_BEFORE = 40
"""Characters before the first thing found, where the snippet is cut here."""
_OPEN, _CLOSE = "\x02", "\x03"
_MONTH_S = 30 * 86400

_RANKING = f"""ORDER BY score * (1.0 + 1.0 / (1.0 + max(0.0, :now_s - at_s) / {_MONTH_S}.0)), at_s DESC, hit_id DESC
LIMIT :limit"""


@dataclass(frozen=True)
class Query:
    """What is searched.

    Args:
        match: in FTS5's language; None if no term is made of words.
        literals: terms that are looked for as they are.
    """

    match: str | None
    literals: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return self.match is None and not self.literals


def parse(text: str) -> Query:
    """Return what a text searches; there is none that FTS5 could take for its syntax."""
    words: list[str] = []
    literals: list[str] = []
    terms = list(_TERM.finditer(storable(text)))[:_MAX_TERMS]
    for found in terms:
        term = (found.group(1) or found.group(2) or "").strip()
        if not term:
            continue
        if _UNSPACED.search(term) or not any(map(str.isalnum, term)):
            literals.append(term)
            continue
        is_open = found.group(2) is not None and found.end() == len(text) and term[-1].isalnum()
        words.append('"' + term.replace('"', '""') + '"' + ("*" if is_open else ""))
    return Query(" ".join(words) or None, tuple(literals))


def search(connection: sqlite3.Connection, text: str, limit: int) -> list[Hit]:
    """Return messages and titles with what a text searches; the best first, the newer of equals."""
    query = parse(text)
    if query.is_empty or limit < 1:
        return []
    return [*_titles(connection, query, limit), *_messages(connection, query, limit)][:limit]


def _titles(connection: sqlite3.Connection, query: Query, limit: int) -> list[Hit]:
    source, conditions, values = _conditions(query, "title_index", "c.title")
    rows = connection.execute(
        f"SELECT c.id AS hit_id, c.title, c.updated_s AS at_s, {_score(query, 'title_index')} AS score FROM {source}"
        f" conversations c WHERE {conditions} AND c.deleted_s IS NULL {_RANKING}",
        values | {"limit": limit},
    ).fetchall()
    marked = _marked(connection, query, "title_index", [row[0] for row in rows])
    return [
        Hit(id_, None, str(title), None, *_snippet(marked.get(id_), str(title), query), float(updated_s))
        for id_, title, updated_s, _ in rows
    ]


def _messages(connection: sqlite3.Connection, query: Query, limit: int) -> list[Hit]:
    source, conditions, values = _conditions(query, "node_index", "n.text")
    rows = connection.execute(
        f"SELECT n.id AS hit_id, n.conversation_id, c.title, n.role, n.created_s AS at_s,"
        f" {_score(query, 'node_index')} AS score, {'NULL' if query.match else 'n.text'} FROM {source}"
        f" nodes n JOIN conversations c ON c.id = n.conversation_id"
        f" WHERE {conditions} AND c.deleted_s IS NULL {_RANKING}",
        values | {"limit": limit},
    ).fetchall()
    marked = _marked(connection, query, "node_index", [row[0] for row in rows])
    hits = []
    for id_, conversation_id, title, role, created_s, _, whole in rows:
        snippet = _snippet(marked.get(id_), str(whole or ""), query)
        hits.append(Hit(conversation_id, id_, str(title), role if role in ROLES else None, *snippet, float(created_s)))
    return hits


def _conditions(query: Query, index: str, column: str) -> tuple[str, str, dict[str, Any]]:
    table, _, _ = column.partition(".")
    conditions = []
    values: dict[str, Any] = {"now_s": time.time()}
    if query.match is not None:
        conditions += [f"{index} MATCH :match", f"{table}.id = {index}.rowid"]
        values["match"] = query.match
    for n, literal in enumerate(query.literals):
        conditions.append(f"{column} LIKE :literal_{n} ESCAPE '\\'")
        values[f"literal_{n}"] = "%" + re.sub(r"([\\%_])", r"\\\1", literal) + "%"
    return (f"{index} CROSS JOIN" if query.match else ""), " AND ".join(conditions), values


def _score(query: Query, index: str) -> str:
    """Return the expression of how well a row fits, the better the lower."""
    return f"bm25({index})" if query.match else "-1.0"


def _marked(connection: sqlite3.Connection, query: Query, index: str, ids: list[int]) -> dict[int, str]:
    """Return the best piece of each row, what was found between marks; it costs, so only of rows that are shown."""
    if query.match is None:
        return {}
    rows = connection.execute(
        f"SELECT rowid, snippet({index}, 0, ?, ?, '…', {_N_SNIPPET_WORDS}) FROM {index}"
        f" WHERE {index} MATCH ? AND rowid IN (SELECT value FROM json_each(?))",
        (_OPEN, _CLOSE, query.match, json.dumps(ids)),
    )
    return {id_: str(piece) for id_, piece in rows.fetchall()}


def _snippet(marked: str | None, whole: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return one line of a text, and where in it is what was searched."""
    if marked is None:
        marked = _around_first(whole, query)
    line, spans = _read_marks(" ".join(marked.split()))
    for literal in query.literals:
        spans += [found.span() for found in re.finditer(re.escape(literal), line, re.IGNORECASE)]
    return _fitted(line, sorted(set(spans)))


def _around_first(whole: str, query: Query) -> str:
    places = [found.start() for term in query.literals if (found := re.search(re.escape(term), whole, re.IGNORECASE))]
    start = max(0, min(places, default=0) - _BEFORE)
    end = start + _MAX_SNIPPET - 2
    return ("…" if start else "") + whole[start:end] + ("…" if end < len(whole) else "")


def _read_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    line, spans, begun = "", [], None
    for piece in re.split(f"([{_OPEN}{_CLOSE}])", marked):
        if piece == _OPEN:
            begun = len(line)
        elif piece == _CLOSE:
            if begun is not None:
                spans.append((begun, len(line)))
            begun = None
        else:
            line += piece
    return line, spans


def _fitted(line: str, spans: list[tuple[int, int]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Cut a line that is long since FTS5 counts words, of which some are long."""
    if len(line) <= _MAX_SNIPPET:
        return line, tuple(spans)
    start = max(0, min(spans[0][0] - _BEFORE, len(line) - _MAX_SNIPPET + 1)) if spans else 0
    head = "…" if start else ""
    kept = head + line[start : start + _MAX_SNIPPET - 2]
    kept += "…" if start + _MAX_SNIPPET - 2 < len(line) else ""
    moved = [(a - start + len(head), min(b - start + len(head), len(kept))) for a, b in spans]
    return kept, tuple((a, b) for a, b in moved if 0 <= a < b)
