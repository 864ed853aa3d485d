"""A model's vocabulary as the grammar compiler wants to see it."""

from __future__ import annotations

from localllm.llama import Vocab


class ModelVocab:
    """Adapts `localllm.llama.Vocab` to `localllm.chat.grammar.VocabView`."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab

    @property
    def n_vocab(self) -> int:
        return self._vocab.n_tokens

    @property
    def end_tokens(self) -> tuple[int, ...]:
        return self._vocab.eog_tokens

    def piece(self, token: int, special: bool = True) -> bytes:
        return self._vocab.piece(token, special=special)

    def is_control(self, token: int) -> bool:
        return self._vocab.is_control(token)

    def tokenize(self, text: str) -> list[int]:
        return self._vocab.tokenize(text, add_special=False, parse_special=False)
