"""`localllm chats`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.conversations import ConversationStore
from tests.cli.conftest import Cli


@pytest.fixture
def chat_id() -> int:
    """A conversation that is kept."""
    store = ConversationStore.open()
    made = store.create(title="Bread\x1b[31m", model="tiny")
    question = store.add(made.id, None, "user", "How is bread made?")
    store.add(made.id, question.id, "assistant", "Of flour\x1b[2J and water.")
    store.close()
    return made.id


def test_conversations_are_listed(cli: Cli, chat_id: int) -> None:
    result = cli("chats", "list")
    assert result.code == 0 and "Bread[31m  (tiny)" in result.out and "\x1b" not in result.out
    (found,) = json.loads(cli("chats", "list", "--json").out)
    assert (found["id"], found["n_messages"], found["title"]) == (chat_id, 2, "Bread\x1b[31m")


def test_an_empty_list_says_what_to_do(cli: Cli) -> None:
    result = cli("chats", "list")
    assert (result.code, result.out) == (0, "") and "localllm" in result.err


def test_messages_are_found(cli: Cli, chat_id: int) -> None:
    result = cli("chats", "search", "flour")
    assert f"{chat_id}  Bread[31m  assistant: Of flour[2J and water." in result.out
    assert json.loads(cli("chats", "search", "flour", "--json").out)[0]["spans"] == [[3, 8]]
    assert "Nothing found" in cli("chats", "search", "(").err


def test_export_and_import(cli: Cli, chat_id: int, tmp_path: Path) -> None:
    file = tmp_path / "bread.json"
    assert cli("chats", "export", str(chat_id), str(file)).code == 0
    again = cli("chats", "export", str(chat_id), str(file))
    assert again.code == 6 and "--force" in again.err
    assert cli("chats", "export", str(chat_id), str(file), "--force").code == 0
    assert "## Assistant" in cli("chats", "export", str(chat_id), "-").out
    messages = json.loads(cli("chats", "export", str(chat_id), "-", "--format", "messages").out)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    taken = cli("chats", "import", str(file))
    assert taken.code == 0 and "Took 1" in taken.err
    assert len(json.loads(cli("chats", "list", "--json").out)) == 2


def test_conversations_are_deleted_for_good(cli: Cli, chat_id: int) -> None:
    refused = cli("chats", "rm", str(chat_id), stdin="")
    assert refused.code == 6 and "--yes" in refused.err
    assert cli("chats", "rm", str(chat_id), "--yes").code == 0
    assert json.loads(cli("chats", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("export", "7", "-"), 6),
        (("rm", "7", "--yes"), 6),
        (("import", "no-such-file.json"), 6),
        (("export", "99999999999999999999", "-"), 2),
    ],
)
def test_bad_input_is_refused(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli("chats", *arguments).code == code


def test_a_damaged_file_is_told(cli: Cli) -> None:
    store = ConversationStore.open()
    store.close()
    store.file.write_bytes(b"garbage" * 1000)
    result = cli("chats", "list")
    assert result.code == 0 and "damaged" in result.err and "moved to" in result.err
