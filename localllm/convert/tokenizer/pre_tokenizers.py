"""Which of llama.cpp's ways to split text a byte-level BPE tokenizer has, by what tokenizer.json says of it.

llama.cpp's own converter recognises a tokenizer by a hash of what it makes of one text, and so only those that it has
seen. Here the regular expressions decide. Anything else is refused: wrong splits are wrong tokens, and nobody sees it.

Source: `llm_tokenizer_bpe` in llama-vocab.cpp, which quotes the original expressions.
"""

from __future__ import annotations

from typing import Any

from localllm.convert.tokenizer.files import TokenizerFiles
from localllm.errors import UnsupportedModel

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"

_LLAMA3 = rf"{_WORDS}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_WORDS}|{_LEAD}\p{{L}}+|\p{{N}}|{_REST}"
_QWEN35 = rf"{_WORDS}|{_LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_REST_SLASH}"
_GPT4O = rf"{_LEAD}{_UPPER}*{_LOWER}+{_WORDS}?|{_LEAD}{_UPPER}+{_LOWER}*{_WORDS}?|\p{{N}}{{1,3}}|{_REST_SLASH}"
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r'[!"#$%&'
    r"'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_DIGITS = "digits one by one"
_GPT2 = "GPT-2's expression"

_KNOWN: dict[tuple[str, ...], dict[bool, str]] = {
    (_GPT2,): {False: "gpt-2"},
    (_DIGITS, _GPT2): {False: "smollm"},
    (_LLAMA3,): {True: "llama-bpe", False: "dbrx"},
    (_QWEN2,): {False: "qwen2"},
    (_QWEN35,): {False: "qwen35"},
    (_TEKKEN,): {True: "tekken"},
    (_GPT4O,): {False: "gpt-4o"},
    _DEEPSEEK3: {False: "deepseek-v3"},
}
"""By the splits in their order: llama.cpp's name, with and without taking whole words first (ignore_merges)."""


def pre_tokenizer(files: TokenizerFiles) -> tuple[str, tuple[str, ...]]:
    """Return llama.cpp's name for how a tokenizer splits text, and notes.

    Raises:
        UnsupportedModel: llama.cpp has no such way.
    """
    for step in files.steps("normalizer"):
        # llama.cpp does not compose characters; nearly all text is composed.
        if step.get("type") != "NFC":
            raise _unknown(f"normalizes text by {step.get('type')!r}")
    splits = tuple(split for step in files.steps("pre_tokenizer") for split in _splits(step))
    names = _KNOWN.get(splits)
    if names is None:
        raise _unknown(f"splits text by {' and then '.join(splits) or 'nothing'}")
    takes_words = bool(files.section("model").get("ignore_merges"))
    if takes_words in names:
        return names[takes_words], ()
    difference = "takes whole words first, and llama.cpp does not" if takes_words else "does not take whole words first"
    return next(iter(names.values())), (f"The tokenizer {difference}: rare words may be split otherwise.",)


def _splits(step: dict[str, Any]) -> list[str]:
    """Return what a step splits by; none for the one that only spells bytes."""
    kind = step.get("type")
    if kind == "Split":
        return [_expression(step)]
    if kind == "Digits" and step.get("individual_digits"):
        return [_DIGITS]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return [_GPT2] if step.get("use_regex", True) else []
    raise _unknown(f"splits text by {kind!r}")


def _expression(step: dict[str, Any]) -> str:
    way = step.get("behavior"), bool(step.get("invert"))
    expression = (step.get("pattern") or {}).get("Regex")
    if not isinstance(expression, str) or way not in (("Isolated", False), ("Removed", True)):
        raise _unknown(f"splits text by {step.get('pattern')!r}, {way[0]}")
    return expression.replace("\r", r"\r").replace("\n", r"\n")


def _unknown(what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"The tokenizer {what}, which llama.cpp does not.", hint="This model cannot be converted; report it."
    )
