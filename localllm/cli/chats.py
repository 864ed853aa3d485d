"""`localllm chats`: the conversations that are kept."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.numbers import json_text
from localllm.cli.screen import notice
from localllm.cli.tables import cut, duration, table
from localllm.errors import RequestError
from localllm.printable import harmless

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore
    from localllm.conversations.export import ExportFormat

_ID = click.IntRange(1, (1 << 63) - 1)
_MAX_TITLE = 60
_FORMATS = ("markdown", "json", "messages")


@click.group("chats", short_help="List, search, export and import conversations.")
def command() -> None:
    """List, search, export and import the conversations that are kept.

    \b
    localllm chats search "sourdough"
    localllm chats export 12 bread.md
    """


@command.command("list", short_help="List the conversations.")
@click.option("--all", "with_archived", is_flag=True, help="Archived ones, too.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=None, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_chats(with_archived: bool, limit: int | None, as_json: bool) -> None:
    """List the conversations: pinned ones first, then those with the latest messages."""
    with _store() as store:
        found = store.conversations(with_archived=with_archived, limit=limit)
    if as_json:
        names = ("id", "title", "model", "n_messages", "created_s", "updated_s", "is_pinned", "is_archived")
        click.echo(json_text([{name: getattr(one, name) for name in names} for one in found]))
    elif not found:
        notice("There is none yet. Begin one: localllm")
    else:
        now_s = time.time()
        rows = [
            (str(one.id), str(one.n_messages), duration(max(0.0, now_s - one.updated_s)), _line(one.title, one.model))
            for one in found
        ]
        for row in table([("id", "messages", "last", "title"), *rows], right=(0, 1, 2)):
            click.echo(row)


@command.command("search", short_help="Find messages by their words.")
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def search_chats(query: str, limit: int, as_json: bool) -> None:
    """Find titles and messages that have all words of a query; "words in quotation marks" in that order."""
    from dataclasses import asdict

    with _store() as store:
        hits = store.search(query, limit)
    if as_json:
        click.echo(json_text([asdict(hit) for hit in hits]))
        return
    if not hits:
        notice("Nothing found. Try fewer words.")
    for hit in hits:
        who = hit.role or "title"
        click.echo(f"{hit.conversation_id}  {_line(hit.title, None)}  {who}: {_highlighted(hit.snippet, hit.spans)}")


@command.command("export", short_help="Write a conversation to a file.")
@click.argument("id_", metavar="ID", type=_ID)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@click.option("--format", "form", type=click.Choice(_FORMATS), default=None, help="By the file's name if not said.")
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def export(id_: int, file: Path, form: ExportFormat | None, force: bool) -> None:
    """Write a conversation to a file; - is stdout.

    json has all branches; markdown, to be read, and messages, as OpenAI's API takes them, have the one that is shown.
    """
    from localllm.conversations.export import export_file, export_text

    with _store() as store:
        if str(file) == "-":
            text = export_text(store, id_, form or "markdown").rstrip("\n")
            click.echo(harmless(text) if sys.stdout.isatty() else text)
            return
        if not force and os.path.lexists(file):
            raise RequestError(f"{file} exists.", hint="Choose another name, or add --force.")
        export_file(store, id_, file, form=form, overwrite=force)
    notice(f"Wrote {file}.")


@command.command("import", short_help="Take conversations from a file.")
@click.argument("file", type=click.Path(path_type=Path))
def import_chats(file: Path) -> None:
    """Take conversations from a file: our Markdown or JSON, {"messages": [...]}, ChatGPT's conversations.json."""
    from localllm.conversations.importing import import_file

    with _store(is_changed=True) as store:
        found = import_file(store, file)
    for one in found:
        click.echo(f"{one.id}  {_line(one.title, None)}")
    notice(f"Took {len(found)} from {file}.")


@command.command("rm", short_help="Delete conversations.")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=_ID)
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask.")
def remove(ids: tuple[int, ...], is_agreed: bool) -> None:
    """Delete conversations for good."""
    with _store(is_changed=True) as store:
        for found in [store.conversation(id_) for id_ in ids]:
            notice(f"{found.id}  {_line(found.title, None)}")
        if not is_agreed:
            if not (sys.stdin is not None and sys.stdin.isatty()):
                raise RequestError("Nobody is here to be asked, and nothing was deleted.", hint="Add --yes.")
            if not click.confirm("Delete?", err=True):
                raise click.Abort
        for id_ in dict.fromkeys(ids):
            store.delete(id_)
    notice("Deleted.")


@contextlib.contextmanager
def _store(*, is_changed: bool = False) -> Iterator[ConversationStore]:
    """Yield the store; what is wrong with it is said, and refused where something is to be kept."""
    from localllm.conversations import ConversationStore

    store = ConversationStore.open()
    try:
        if store.notice is not None:
            notice(store.notice)
        if is_changed and not store.is_writable:
            raise RequestError("The conversations cannot be changed now.", hint="See the reason above.")
        yield store
    finally:
        store.close()


def _line(title: str, model: str | None) -> str:
    line = cut(" ".join(title.split()) or "Untitled", _MAX_TITLE) + (f"  ({model})" if model else "")
    return harmless(line)


def _highlighted(snippet: str, spans: tuple[tuple[int, int], ...]) -> str:
    pieces, end = [], 0
    for start, stop in spans:
        if start >= end:
            pieces += [harmless(snippet[end:start]), click.style(harmless(snippet[start:stop]), bold=True)]
            end = stop
    return "".join((*pieces, harmless(snippet[end:])))
