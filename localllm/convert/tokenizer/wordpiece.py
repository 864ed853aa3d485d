"""WordPiece: BERT. llama.cpp marks the first piece of a word, BERT those that continue one."""

from __future__ import annotations

import gguf

from localllm.convert.tokenizer.files import TokenizerFiles
from localllm.convert.tokenizer.tokenizer import Vocabulary, listed
from localllm.errors import UnsupportedModel

_CONTINUES = "##"
_STARTS = "▁"
_LOWERCASE = "tokenizer.ggml.normalizer.lowercase"
_STRIP_ACCENTS = "tokenizer.ggml.normalizer.strip_accents"


def read_wordpiece(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    """Return the vocabulary of a WordPiece tokenizer, with `n_vocab` tokens.

    Raises:
        UnsupportedModel: it normalizes or splits text as llama.cpp does not.
        InvalidCheckpoint: its files are damaged.
    """
    prefix = files.section("model").get("continuing_subword_prefix", _CONTINUES)
    kinds = [step.get("type") for name in ("normalizer", "pre_tokenizer") for step in files.steps(name)]
    if kinds != ["BertNormalizer", "BertPreTokenizer"] or prefix != _CONTINUES:
        raise UnsupportedModel(
            f"The tokenizer splits text by {kinds}, continued by {prefix!r}, which llama.cpp does not.",
            hint="This model cannot be converted; report it.",
        )
    own = {id: (_marked(text), gguf.TokenType.NORMAL) for text, id in files.vocabulary.items()}
    tokens, types, notes = listed(own, files.added, n_vocab)
    return Vocabulary("bert", tokens, types, flags=_flags(files), notes=notes)


def _flags(files: TokenizerFiles) -> dict[str, bool]:
    """Return how text is normalized, where it is not as llama.cpp takes it to be: lower case, without accents."""
    normalizer = files.section("normalizer")
    lowercase = bool(normalizer.get("lowercase", True))
    strips = normalizer.get("strip_accents")
    strips = lowercase if strips is None else bool(strips)
    return {} if lowercase and strips else {_LOWERCASE: lowercase, _STRIP_ACCENTS: strips}


def _marked(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return text
    return text.removeprefix(_CONTINUES) if text.startswith(_CONTINUES) else _STARTS + text
