"""Byte-level BPE: GPT-2, Llama 3, Qwen and most others."""

from __future__ import annotations

import gguf

from localllm.convert.tokenizer.files import TokenizerFiles
from localllm.convert.tokenizer.pre_tokenizers import pre_tokenizer
from localllm.convert.tokenizer.tokenizer import Vocabulary, listed


def read_bpe(files: TokenizerFiles, n_vocab: int) -> Vocabulary:
    """Return the vocabulary of a byte-level BPE tokenizer, with `n_vocab` tokens.

    Raises:
        UnsupportedModel: llama.cpp cannot split text as it does.
        InvalidCheckpoint: its files are damaged.
    """
    pre, notes = pre_tokenizer(files)
    own = {id: (text, gguf.TokenType.NORMAL) for text, id in files.vocabulary.items()}
    tokens, types, more_notes = listed(own, files.added, n_vocab)
    merges = [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in files.merges]
    return Vocabulary("gpt2", tokens, types, pre=pre, merges=merges, notes=notes + more_notes)
