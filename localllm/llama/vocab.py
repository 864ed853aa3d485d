"""The model's vocabulary: text to tokens and back."""

from __future__ import annotations

import ctypes
from typing import Any

from localllm.llama.library import library

_WORDPIECE = 3
"""llama.cpp's LLAMA_VOCAB_TYPE_WPM."""
_ATTR_CONTROL = 1 << 3
_ATTR_USER_DEFINED = 1 << 4


class Vocab:
    """A view of a model's vocabulary; valid as long as the model. Safe to use from several threads."""

    def __init__(self, handle: Any) -> None:
        self._lib = library()
        self._raw = handle
        self.n_tokens: int = self._lib.llama_vocab_n_tokens(handle)
        self._pieces: list[bytes | None] = [None] * self.n_tokens
        self._is_eog: dict[int, bool] = {}
        self._eog_ids: tuple[int, ...] | None = None

    @property
    def handle(self) -> Any:
        if not self._raw:
            raise RuntimeError("the model is closed")
        return self._raw

    def detach(self) -> None:
        """Refuse further use; the model does this when it is closed."""
        self._raw = None

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model brings a tokenizer; without one, llama.cpp ends the process when asked to tokenize."""
        return int(self._lib.llama_vocab_type(self.handle)) != 0

    @property
    def kind(self) -> int:
        """How texts become tokens, as llama.cpp numbers it (enum llama_vocab_type)."""
        return int(self._lib.llama_vocab_type(self.handle))

    @property
    def add_bos(self) -> bool:
        """Whether the model expects its beginning-of-text token first."""
        return bool(self._lib.llama_vocab_get_add_bos(self.handle))

    @property
    def add_eos(self) -> bool:
        """Whether the model expects its end-of-text token last."""
        return bool(self._lib.llama_vocab_get_add_eos(self.handle))

    @property
    def add_sep(self) -> bool:
        """Whether the model expects its separator between the two texts of a pair."""
        return bool(self._lib.llama_vocab_get_add_sep(self.handle))

    @property
    def misses_specials(self) -> bool:
        """Whether it lacks a token that it puts around a text; llama.cpp ends the process when asked to tokenize."""
        is_wordpiece = int(self._lib.llama_vocab_type(self.handle)) == _WORDPIECE
        return (
            ((self.add_bos or is_wordpiece) and self.bos is None)
            or (self.add_eos and self.eos is None)
            or (is_wordpiece and self.sep is None)
        )

    @property
    def sep(self) -> int | None:
        return self._special("sep")

    @property
    def bos(self) -> int | None:
        return self._special("bos")

    @property
    def eos(self) -> int | None:
        return self._special("eos")

    @property
    def eot(self) -> int | None:
        return self._special("eot")

    @property
    def fim_pre(self) -> int | None:
        """The token before the text left of a gap, of a model that was trained to fill gaps ..."""
        return self._special("fim_pre")

    @property
    def fim_suf(self) -> int | None:
        """... the one before the text right of it ..."""
        return self._special("fim_suf")

    @property
    def fim_mid(self) -> int | None:
        """... and the one after which the model writes what belongs in between."""
        return self._special("fim_mid")

    @property
    def fim_rep(self) -> int | None:
        """The token before a repository's name."""
        return self._special("fim_rep")

    @property
    def fim_sep(self) -> int | None:
        """The token before each file's name in a repository."""
        return self._special("fim_sep")

    def _special(self, name: str) -> int | None:
        token: int = getattr(self._lib, f"llama_vocab_{name}")(self.handle)
        return token if 0 <= token < self.n_tokens else None

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation (end of text, of turn, of message)."""
        known = self._is_eog.get(token)
        if known is None:
            known = self._is_eog[token] = bool(self._lib.llama_vocab_is_eog(self.handle, token))
        return known

    @property
    def eog_tokens(self) -> tuple[int, ...]:
        """All tokens that end a generation, ascending; the first call looks at the whole vocabulary."""
        if self._eog_ids is None:
            ends = self._lib.llama_vocab_is_eog
            self._eog_ids = tuple(t for t in range(self.n_tokens) if ends(self.handle, t))
        return self._eog_ids

    def is_control(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_get_attr(self.handle, token) & _ATTR_CONTROL)

    def is_user_defined(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_get_attr(self.handle, token) & _ATTR_USER_DEFINED)

    def text(self, token: int) -> str:
        """Return the token as the vocabulary spells it, such as "<|im_end|>"."""
        raw: bytes | None = self._lib.llama_vocab_get_text(self.handle, token)
        return (raw or b"").decode("utf-8", "replace")

    def raw_texts(self, n: int) -> list[bytes | None]:
        """Return the first `n` tokens as the vocabulary spells them, which need not be UTF-8."""
        spelling, handle = self._lib.llama_vocab_get_text, self.handle
        return [spelling(handle, token) for token in range(n)]

    def difference(self, other: Vocab) -> str | None:
        """Say which token, the first of those that both have, is spelled otherwise; None where all are the same."""
        n = min(self.n_tokens, other.n_tokens)
        for token, (ours, theirs) in enumerate(zip(self.raw_texts(n), other.raw_texts(n), strict=True)):
            if ours != theirs:
                return f"token {token} is {self.text(token)!r} and {other.text(token)!r}"
        return None

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes that the token stands for; control tokens are empty unless `special`."""
        if special:
            return self._render(token, special=True)
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def _render(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n: int = self._lib.llama_token_to_piece(self.handle, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return the token ids of `text`.

        Args:
            text: lone surrogates are replaced, since they have no UTF-8 form.
            add_special: add the tokens that the model expects around a text, such as BOS.
            parse_special: turn text like "<|im_end|>" into its control token.
        """
        data = text.encode("utf-8", "replace")
        capacity = len(data) + 16
        while True:
            tokens = (ctypes.c_int32 * capacity)()
            n: int = self._lib.llama_tokenize(
                self.handle, data, len(data), tokens, capacity, add_special, parse_special
            )
            if n >= 0:
                return list(tokens[:n])
            capacity = -n
