"""Text to calibrate with, as chunks of tokens.

Each document is tokenized as a whole, with BOS before it where the model wants it, and cut into chunks of `n_ctx`
tokens; the first token of each gives way to BOS. So one file gives the chunks that llama-imatrix reads. What is left
at the end of the documents is joined and cut once more. The chunks of different documents are mixed evenly, so that
the first few are as mixed as all are.

Source: llama.cpp, tools/imatrix/imatrix.cpp, `compute_imatrix`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.llama import Vocab
from localllm.text_files import read_text

N_CTX_MIN = 16
"""A shorter chunk is no text. llama-imatrix ignores products of fewer rows."""

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Document:
    """A text, and what it is called in the results."""

    name: str
    text: str
    has_specials: bool = False
    """Text like "<|im_end|>" in it is meant as the token, as in a rendered conversation."""


@dataclass(frozen=True)
class Chunks:
    """What is read: chunks of one length."""

    names: tuple[str, ...]
    """Of the documents."""
    tokens: Tokens
    """[n_chunks, n_ctx] int32, BOS included."""

    @property
    def n_chunks(self) -> int:
        return len(self.tokens)

    @property
    def n_ctx(self) -> int:
        """Tokens of each chunk."""
        return len(self.tokens[0])

    @property
    def n_tokens(self) -> int:
        return self.tokens.size

    @cached_property
    def sha256(self) -> str:
        """A digest of the tokens and of how they are cut."""
        return sha256(f"{self.tokens.shape}".encode() + self.tokens.astype("<i4").tobytes()).hexdigest()


def read_documents(paths: Iterable[Path]) -> list[Document]:
    """Read text files: prose, Markdown, code.

    Raises:
        RequestError: one cannot be read, or is not UTF-8.
    """
    return [Document(str(path), read_text(path)) for path in paths]


def cut(documents: Sequence[Document], vocab: Vocab, n_ctx: int, n_chunks: int | None = None) -> Chunks:
    """Tokenize documents and cut them. What does not fill the last chunk is left out.

    Args:
        documents: what to read.
        vocab: of the model.
        n_ctx: tokens of a chunk.
        n_chunks: how many at most; None is all there are.

    Raises:
        RequestError: `n_ctx` or `n_chunks` is out of range, the texts together are shorter than a chunk, or the model
        has
            no tokenizer.
    """
    check_size(n_ctx, n_chunks)
    if not vocab.has_tokenizer:
        raise RequestError("The model has no tokenizer.", hint="Choose a model file that brings one.")
    streams = [_tokenize(document, vocab) for document in documents]
    rests = [stream[len(stream) // n_ctx * n_ctx :] for stream in streams]
    pieces = [_whole_chunks(stream, n_ctx) for stream in (*streams, np.concatenate([*rests, _NONE]))]
    mixed = _mix(pieces)[:n_chunks]
    if not mixed:
        n_there = sum(map(len, streams))
        raise RequestError(
            f"The text has {n_there} tokens; a chunk takes {n_ctx}.", hint="Give more text, or a smaller --n-ctx."
        )
    tokens = np.stack(mixed)
    if vocab.add_bos and vocab.bos is not None:
        tokens[:, 0] = vocab.bos
    return Chunks(tuple(document.name for document in documents), tokens)


_NONE: Tokens = np.empty(0, dtype=np.int32)


def check_size(n_ctx: int, n_chunks: int | None) -> None:
    """Check what was asked for.

    Raises:
        RequestError: chunks that are too short, or none.
    """
    if n_ctx < N_CTX_MIN:
        raise RequestError(f"n_ctx is {n_ctx}; a chunk has at least {N_CTX_MIN} tokens.", hint="Use --n-ctx 512.")
    if n_chunks is not None and n_chunks < 1:
        raise RequestError(f"{n_chunks} chunks; there must be at least 1.", hint="Leave --chunks out for all.")


def _tokenize(document: Document, vocab: Vocab) -> Tokens:
    tokens = vocab.tokenize(document.text, add_special=False, parse_special=document.has_specials)
    starts = vocab.add_bos and vocab.bos is not None and tokens[:1] != [vocab.bos]
    return np.array([vocab.bos, *tokens] if starts else tokens, dtype=np.int32)


def _whole_chunks(stream: Tokens, n_ctx: int) -> list[Tokens]:
    n = len(stream) // n_ctx
    return list(stream[: n * n_ctx].reshape(n, n_ctx))


def _mix(pieces: Sequence[Sequence[Tokens]]) -> list[Tokens]:
    """Merge lists so that any beginning of the result has about the same share of each."""
    placed = [((i + 0.5) / len(chunks), source, i) for source, chunks in enumerate(pieces) for i in range(len(chunks))]
    return [pieces[source][i] for _, source, i in sorted(placed)]
