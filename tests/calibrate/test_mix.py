"""The text that comes with the program: what is in it, and what must not be."""

from __future__ import annotations

import re
from importlib.resources import files

from localllm.calibrate import default_chats, default_documents
from localllm.evaluate import default_text

N_GRAM = 13


def texts() -> dict[str, str]:
    chats = "\n".join(message["content"] for chat in default_chats() for message in chat)
    return {document.name: document.text for document in default_documents()} | {"chats": chats}


def grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + N_GRAM]) for i in range(len(words) - N_GRAM + 1)}


def test_nothing_of_the_evaluation_is_in_it() -> None:
    measured = grams(default_text())
    assert len(measured) > 5000
    for name, text in texts().items():
        assert not measured & grams(text), f"{name} shares thirteen words in a row with what is measured on"


def test_shared_words_would_be_found() -> None:
    words = re.findall(r"\w+", default_text())[100:113]
    assert grams(default_text()) & grams("before. " + ", ".join(words).upper() + " after")


def test_it_is_large_and_mixed_enough_and_small_enough_to_ship() -> None:
    sizes = {name: len(text.encode()) for name, text in texts().items()}
    assert 200_000 <= sum(sizes.values()) <= 400_000
    assert all(size > 10_000 for size in sizes.values())
    languages = texts()["languages"]
    for script in (r"[\u0400-\u04ff]", r"[\u4e00-\u9fff]", r"[\u3040-\u30ff]", r"[\uac00-\ud7af]", r"[\u0600-\u06ff]"):
        assert len(re.findall(script, languages)) > 100


def test_every_file_has_its_licence_written_down() -> None:
    folder = files("localllm.calibrate").joinpath("texts")
    licences = folder.joinpath("LICENSES.md").read_text(encoding="utf-8")
    for file in folder.iterdir():
        assert file.name == "LICENSES.md" or f"`{file.name}`" in licences


def test_conversations_are_whole() -> None:
    for chat in default_chats():
        roles = [message["role"] for message in chat]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2) and turns
        assert all(message["content"].strip() for message in chat)
