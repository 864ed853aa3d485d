"""SentencePiece's BPE: Llama 2, Mistral, Gemma, Phi-3. From tokenizer.json, else from tokenizer.model.

llama.cpp merges the pair whose piece has the best score, so scores are ranks: where tokenizer.json has merge rules, a
piece's score is the place of the first rule that makes it, negative.
"""

from __future__ import annotations

import re
from dataclasses import replace

import gguf

from localllm.convert.tokenizer.files import AddedToken, TokenizerFiles
from localllm.convert.tokenizer.model_proto import Piece, read_model
from localllm.convert.tokenizer.tokenizer import Vocabulary, listed
from localllm.errors import UnsupportedModel

SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
PREFIX_KEY = "tokenizer.ggml.add_space_prefix"
_LAST = -1000.0
"""Score of tokens that merging must not make."""


def read_sentencepiece(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    """Return the vocabulary of a SentencePiece tokenizer in tokenizer.json, with `n_vocab` tokens.

    Raises:
        UnsupportedModel: it treats spaces as llama.cpp does not.
        InvalidCheckpoint: its files are damaged.
    """
    adds_prefix = _adds_prefix(files)
    unknown = files.section("model").get("unk_token")
    own = {id: (text, _type(text, unknown)) for text, id in files.vocabulary.items()}
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(files.merges):
        scores.setdefault(left + right, -float(rank))
    return _vocabulary(own, files.added, scores, n_vocab, adds_prefix)


def read_sentencepiece_model(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    """Return the vocabulary of a tokenizer.model, with `n_vocab` tokens.

    Raises:
        UnsupportedModel: it is no BPE.
        InvalidCheckpoint: its files are damaged.
    """
    model = read_model(files.folder / "tokenizer.model")
    if not model.is_bpe:
        raise UnsupportedModel(
            "tokenizer.model is no BPE, which is all that llama.cpp computes for this architecture.",
            hint="This model cannot be converted.",
        )
    own = {id: (piece.text, gguf.TokenType(piece.type)) for id, piece in enumerate(model.pieces)}
    return _vocabulary(own, files.added, _scores(model.pieces), n_vocab, model.adds_prefix)


def _scores(pieces: tuple[Piece, ...]) -> dict[str, float]:
    return {piece.text: piece.score for piece in pieces if piece.type == gguf.TokenType.NORMAL}


def _vocabulary(
    own: dict[int, tuple[str, gguf.TokenType]],
    added: tuple[AddedToken, ...],
    scores: dict[str, float],
    n_vocab: int,
    adds_prefix: bool,
) -> Vocabulary:
    # llama.cpp looks for these in the text as it is, before spaces become the mark.
    spelt = [token if token.is_special else replace(token, text=token.text.replace(SPACE, " ")) for token in added]
    tokens, types, notes = listed(own, spelt, n_vocab)
    ranked = [
        scores.get(text, _LAST) if kind == gguf.TokenType.NORMAL else _LAST
        for text, kind in zip(tokens, types, strict=True)
    ]
    return Vocabulary("llama", tokens, types, scores=ranked, flags={PREFIX_KEY: adds_prefix}, notes=notes)


def _type(text: str, unknown: object) -> gguf.TokenType:
    if text == unknown:
        return gguf.TokenType.UNKNOWN
    return gguf.TokenType.BYTE if _BYTE.fullmatch(text) else gguf.TokenType.NORMAL


def _adds_prefix(files: TokenizerFiles) -> bool:
    """Return whether a text gets a space before it; check that spaces become marks, and nothing else changes."""
    adds, marks = False, False
    for step in files.steps("normalizer"):
        kind = step.get("type")
        if kind == "Prepend" and step.get("prepend") == SPACE:
            adds = True
        elif kind == "Replace" and step.get("content") == SPACE and step.get("pattern") == {"String": " "}:
            marks = True
        else:
            raise not_computed(f"normalizes text by {kind!r}")
    for step in files.steps("pre_tokenizer"):
        kind = step.get("type")
        if kind == "Metaspace" and step.get("replacement") == SPACE and step.get("split") is False:
            adds, marks = step.get("prepend_scheme", "always") != "never", True
        # Gemma's, which finds no spaces any more.
        elif not (kind == "Split" and step.get("pattern") == {"String": " "} and marks):
            raise not_computed(f"splits text by {kind!r}")
    if not marks:
        raise not_computed("keeps spaces as they are")
    return adds


def not_computed(what: str) -> UnsupportedModel:
    """Return the error for a tokenizer that llama.cpp does not compute."""
    return UnsupportedModel(
        f"The tokenizer {what}, which llama.cpp does not.", hint="This model cannot be converted; report it."
    )
