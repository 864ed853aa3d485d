"""The files that describe a tokenizer, and what they hold in common whatever its kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from localllm.convert.config import read_json
from localllm.errors import InvalidCheckpoint

TOKENIZER = "tokenizer.json"
_DOWNLOAD_AGAIN = "Download the tokenizer's files again."
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused\d+>|<pad>|<mask>|<2mass>", re.DOTALL)
"""Tokens that no text means, also where the file does not call them special. Source: llama.cpp's converter."""


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in the text before anything is split."""

    id: int
    text: str
    is_special: bool
    """It is no text: it is hidden when tokens are turned into text."""


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder says of its tokenizer."""

    folder: Path
    tokenizer: Mapping[str, Any]
    """tokenizer.json, empty if there is none."""
    config: Mapping[str, Any]
    """tokenizer_config.json and, for what it lacks, special_tokens_map.json."""

    @classmethod
    def read(cls, folder: Path) -> TokenizerFiles:
        """Read the files.

        Raises:
            InvalidCheckpoint: one is damaged.
        """
        found = {
            name: read_json(folder / name) if (folder / name).is_file() else {}
            for name in (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")
        }
        return cls(folder, found[TOKENIZER], found["special_tokens_map.json"] | found["tokenizer_config.json"])

    def section(self, name: str) -> dict[str, Any]:
        """Return a part of tokenizer.json: model, normalizer, pre_tokenizer or post_processor; empty if it is null."""
        value = self.tokenizer.get(name)
        if value is not None and not isinstance(value, dict):
            raise damaged(f"{TOKENIZER}: {name} is no object")
        return value or {}

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Tokens of the model and their ids, as tokenizer.json spells them; Unigram's are a list with scores.

        Raises:
            InvalidCheckpoint: it is missing or damaged.
        """
        vocabulary = self.section("model").get("vocab")
        if isinstance(vocabulary, list):
            vocabulary = {entry[0]: id for id, entry in enumerate(vocabulary) if isinstance(entry, list) and entry}
        if not isinstance(vocabulary, dict) or not all(type(id) is int and id >= 0 for id in vocabulary.values()):
            raise damaged(f"{TOKENIZER}: the model has no vocab of tokens and ids")
        return vocabulary

    @cached_property
    def added(self) -> tuple[AddedToken, ...]:
        """Added tokens, by id."""
        entries = self.tokenizer.get("added_tokens") or [
            {**entry, "id": int(id)} for id, entry in (self.config.get("added_tokens_decoder") or {}).items()
        ]
        found = {token.id: token for token in map(_added_token, entries)}
        return tuple(found[id] for id in sorted(found))

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """Merge rules, best first.

        Raises:
            InvalidCheckpoint: they are missing or damaged.
        """
        merges = self.section("model").get("merges")
        pairs = [tuple(rule.split(" ")) if isinstance(rule, str) else tuple(rule) for rule in merges or ()]
        if not pairs or not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
            raise damaged(f"{TOKENIZER}: the model has no list of merges, each of two parts")
        return pairs  # type: ignore[return-value]

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Return the parts of a normalizer, pre_tokenizer or post_processor, which may be one or a sequence."""
        return list(_flat(self.section(name)))


def _flat(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if step.get("type") == "Sequence":
        parts: list[dict[str, Any]] = next(
            (step[key] for key in ("normalizers", "pretokenizers", "processors") if key in step), []
        )
        for part in parts:
            yield from _flat(part)
    elif step:
        yield step


def _added_token(entry: Any) -> AddedToken:
    if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("content"), str):
        raise damaged("an added token has no id or no text")
    text = entry["content"]
    return AddedToken(entry["id"], text, bool(entry.get("special")) or bool(_LOOKS_SPECIAL.fullmatch(text)))


def damaged(problem: str) -> InvalidCheckpoint:
    """Return the error for tokenizer files that make no sense."""
    return InvalidCheckpoint(f"{problem}.", hint=_DOWNLOAD_AGAIN)
