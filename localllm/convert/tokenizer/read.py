"""From a folder to a tokenizer: which kind it is, and its parts."""

from __future__ import annotations

from pathlib import Path

from localllm.convert.config import Config
from localllm.convert.tokenizer.bpe import read_bpe
from localllm.convert.tokenizer.files import TOKENIZER, TokenizerFiles, damaged
from localllm.convert.tokenizer.sentencepiece import read_sentencepiece, read_sentencepiece_model
from localllm.convert.tokenizer.special import added_around, chat_templates, special_ids
from localllm.convert.tokenizer.tokenizer import Tokenizer, Vocabulary
from localllm.convert.tokenizer.unigram import read_unigram
from localllm.convert.tokenizer.wordpiece import read_wordpiece
from localllm.errors import InvalidCheckpoint, UnsupportedModel


def read_tokenizer(folder: Path, config: Config, n_vocab: int) -> Tokenizer:
    """Read a folder's tokenizer.

    Args:
        folder: holds tokenizer.json or tokenizer.model.
        config: the model's, for special tokens that the tokenizer's files do not name.
        n_vocab: rows of the embedding; there are as many tokens.

    Raises:
        InvalidCheckpoint: a file is missing or damaged.
        UnsupportedModel: llama.cpp does not compute such a tokenizer.
    """
    files = TokenizerFiles.read(folder)
    try:
        vocabulary = _vocabulary(files, n_vocab)
        ids = special_ids(files, config, vocabulary)
        adds = {"bos": True, "sep": True} if vocabulary.kind == "bert" else added_around(files, ids)
        return Tokenizer(vocabulary, ids, adds, chat_templates(files))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(f"The tokenizer's files are not as they should be: {error!r}") from error


def _vocabulary(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    if not files.tokenizer:
        if (files.folder / "tokenizer.model").is_file():
            return read_sentencepiece_model(files, n_vocab)
        raise InvalidCheckpoint(
            f"{files.folder} holds no {TOKENIZER} and no tokenizer.model.", hint="Download the tokenizer's files too."
        )
    model = files.section("model")
    kind = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    if kind == "BPE":
        return (read_sentencepiece if model.get("byte_fallback") else read_bpe)(files, n_vocab)
    if kind == "WordPiece":
        return read_wordpiece(files, n_vocab)
    if kind == "Unigram":
        return read_unigram(files, n_vocab)
    raise UnsupportedModel(
        f"The tokenizer is of kind {kind!r}; BPE, WordPiece and Unigram can be converted.",
        hint="This model cannot be converted.",
    )
