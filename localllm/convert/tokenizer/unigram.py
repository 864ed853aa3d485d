"""SentencePiece's Unigram, as multilingual embedders have it (multilingual-e5-small, paraphrase-multilingual-MiniLM).

Of all ways to cut a text into tokens, the one whose scores, log probabilities, have the largest sum. Before, characters
are replaced by a compiled map (NFKC and more), and spaces become marks at the beginnings of words.

Source: Kudo 2018 (subword regularization); llama.cpp, `llm_tokenizer_ugm`; transformers, `SpmConverter`.
"""

from __future__ import annotations

import math
from base64 import b64decode
from dataclasses import replace
from typing import Any

import gguf

from localllm.convert.tokenizer.files import TOKENIZER, TokenizerFiles, damaged
from localllm.convert.tokenizer.sentencepiece import PREFIX_KEY, SPACE, not_computed
from localllm.convert.tokenizer.tokenizer import Vocabulary, listed

_MERGE_KEY = "tokenizer.ggml.remove_extra_whitespaces"
_NO_SCORE = -1000.0
_SPACES = {"Regex": " {2,}"}


def read_unigram(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    """Return the vocabulary of a Unigram tokenizer in tokenizer.json, with `n_vocab` tokens.

    Raises:
        UnsupportedModel: it treats text as llama.cpp does not.
        InvalidCheckpoint: its files are damaged.
    """
    scores = [_score(entry) for entry in files.section("model")["vocab"]]
    unknown = files.section("model").get("unk_id")
    normal, unseen = gguf.TokenType.NORMAL, gguf.TokenType.UNKNOWN
    own = {id: (text, unseen if id == unknown else normal) for text, id in files.vocabulary.items()}
    # llama.cpp looks for these in the text as it is, before spaces become the mark.
    spelt = [
        token if token.is_special else replace(token, text=token.text.replace(SPACE, " ")) for token in files.added
    ]
    tokens, types, notes = listed(own, spelt, n_vocab)
    ranked = [scores[id] if id < len(scores) and types[id] == normal else _NO_SCORE for id in range(n_vocab)]
    flags = {PREFIX_KEY: _adds_prefix(files), _MERGE_KEY: _merges_spaces(files)}
    return Vocabulary("t5", tokens, types, scores=ranked, flags=flags, charsmap=_charsmap(files), notes=notes)


def _score(entry: Any) -> float:
    score = float(entry[1])
    if not math.isfinite(score):
        raise damaged(f"{TOKENIZER}: the score of {entry[0]!r} is {score}")
    return score


def _charsmap(files: TokenizerFiles) -> bytes | None:
    """Return the compiled map of characters; check that nothing else changes the text but its spaces."""
    found = None
    for step in files.steps("normalizer"):
        kind = step.get("type")
        if kind == "Precompiled" and found is None:
            found = b64decode(step["precompiled_charsmap"], validate=True)
        elif not _is_about_spaces(step):
            raise not_computed(f"normalizes text by {kind!r}")
    return found


def _is_about_spaces(step: dict[str, Any]) -> bool:
    if step.get("type") == "Replace":
        return bool(step.get("pattern") == _SPACES and step.get("content") in (" ", SPACE))
    return step.get("type") == "Strip"


def _merges_spaces(files: TokenizerFiles) -> bool:
    """Return whether several spaces are one, and none at the end."""
    kinds = [step.get("type") for name in ("normalizer", "pre_tokenizer") for step in files.steps(name)]
    return "WhitespaceSplit" in kinds or "Replace" in kinds


def _adds_prefix(files: TokenizerFiles) -> bool:
    """Return whether a text gets a space before it; check that spaces become marks, and words are cut there only."""
    adds: bool | None = None
    for step in files.steps("pre_tokenizer"):
        kind = step.get("type")
        if kind == "Metaspace" and step.get("replacement") == SPACE:
            adds = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never") != "never"
        elif kind != "WhitespaceSplit":
            raise not_computed(f"splits text by {kind!r}")
    if adds is None:
        raise not_computed("keeps spaces as they are")
    return adds
