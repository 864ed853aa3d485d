"""Special tokens, what is put around a text, and chat templates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from localllm.convert.config import Config, read_json
from localllm.convert.tokenizer.files import TokenizerFiles
from localllm.convert.tokenizer.tokenizer import DEFAULT, Vocabulary
from localllm.errors import InvalidCheckpoint

_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_WRITTEN = ("bos", "eos", "unk", "sep", "pad", "mask")


def special_ids(files: TokenizerFiles, config: Config, vocabulary: Vocabulary) -> dict[str, int]:
    """Return the ids of the special tokens that the files name. BERT's [CLS] begins a text, and its [SEP] ends it."""
    texts = {name: _text(files.config.get(f"{name}_token")) for name in _NAMES}
    ids = dict(files.vocabulary) if files.tokenizer else {text: id for id, text in enumerate(vocabulary.tokens)}
    ids |= {token.text: token.id for token in files.added}
    found = {name: ids[text] for name, text in texts.items() if text is not None and text in ids}
    for name in _NAMES:
        id = config.get(f"{name}_token_id")
        if name not in found and type(id) is int:
            found[name] = id
    for name, other in (("bos", "cls"), ("eos", "sep")):
        if name not in found and other in found:
            found[name] = found[other]
    if "unk" not in found and gguf.TokenType.UNKNOWN in vocabulary.types:
        found["unk"] = vocabulary.types.index(gguf.TokenType.UNKNOWN)
    return {name: found[name] for name in _WRITTEN if 0 <= found.get(name, -1) < len(vocabulary.tokens)}


def _text(entry: Any) -> str | None:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) else None


def added_around(files: TokenizerFiles, ids: Mapping[str, int]) -> dict[str, bool]:
    """Return whether "bos" and "eos" are put around a text: by tokenizer_config.json, else by the template."""
    first, last = _template(files)
    adds = {}
    for name, text in (("bos", first), ("eos", last)):
        said = files.config.get(f"add_{name}_token")
        adds[name] = said if isinstance(said, bool) else text is not None and _id(files, text) == ids.get(name)
    return {name: is_added and name in ids for name, is_added in adds.items()}


def _id(files: TokenizerFiles, text: str) -> int | None:
    added = {token.text: token.id for token in files.added}
    return added[text] if text in added else files.vocabulary.get(text)


def _template(files: TokenizerFiles) -> tuple[str | None, str | None]:
    """Return the tokens that the post-processor puts before and after a single text."""
    for step in files.steps("post_processor"):
        if step.get("type") in ("BertProcessing", "RobertaProcessing"):
            return step["cls"][0], step["sep"][0]
        if step.get("type") == "TemplateProcessing":
            parts = step.get("single") or [{}]
            first, last = (parts[end].get("SpecialToken", {}).get("id") for end in (0, -1))
            return first, last
    return None, None


def chat_templates(files: TokenizerFiles) -> dict[str, str]:
    """Return Jinja sources by name, the usual one as "default": from files of their own, else tokenizer_config.json.

    Raises:
        InvalidCheckpoint: a template's file is no text.
    """
    folder, found = files.folder, _configured(files.config.get("chat_template"))
    if not found and (folder / "chat_template.json").is_file():
        found = _configured(read_json(folder / "chat_template.json").get("chat_template"))
    if (folder / "chat_template.jinja").is_file():
        found[DEFAULT] = _source(folder / "chat_template.jinja")
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[path.stem] = _source(path)
    return found


def _configured(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {DEFAULT: value}
    entries = value if isinstance(value, list) else []
    return {
        entry["name"]: entry["template"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
    }


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path.name} cannot be read as text.", hint="Download the file again.") from error
