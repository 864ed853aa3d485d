"""A text as chunks of tokens, and which of their tokens are scored.

As llama-perplexity has it: the text is tokenized as a whole and cut into chunks of `n_ctx` tokens, each of which is
evaluated from an empty context. The first token of each gives way to BOS where the model expects one. The first half of
a chunk is context only; of the second half, each token predicts the one after it.

Source: llama.cpp, tools/perplexity/perplexity.cpp, `perplexity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localllm.errors import RequestError
from localllm.llama import Vocab

N_CTX_MIN = 16
"""The second half of a shorter chunk is too short to be worth it."""


@dataclass(frozen=True)
class Chunks:
    """The chunks of a text, cut and ready to be evaluated."""

    n_ctx: int
    """Tokens of each chunk."""
    tokens: tuple[tuple[int, ...], ...]
    """[n_chunks, n_ctx]: what is evaluated, BOS included."""

    @property
    def n_chunks(self) -> int:
        return len(self.tokens)

    @property
    def first(self) -> int:
        """The position in a chunk from which on tokens are scored by what they predict."""
        return self.n_ctx // 2

    @property
    def n_scored(self) -> int:
        """Scored predictions of one chunk: its last token predicts what is not there."""
        return self.n_ctx - 1 - self.first

    @classmethod
    def of_text(cls, text: str, vocab: Vocab, n_ctx: int, n_chunks: int | None = None) -> Chunks:
        """Tokenize a text and cut it. What does not fill the last chunk is left out.

        Args:
            text: special tokens in it are read as plain text.
            vocab: of the model, of the reference where there are two.
            n_ctx: tokens of a chunk.
            n_chunks: how many at most; None is all there are.

        Raises:
            RequestError: `n_ctx` or `n_chunks` is out of range, the text is shorter than a chunk, or the model has no
                tokenizer.
        """
        if not vocab.has_tokenizer:
            raise RequestError("The model has no tokenizer.", hint="Cut the text into tokens by other means.")
        tokens = vocab.tokenize(text, add_special=False, parse_special=False)
        bos = vocab.bos if vocab.add_bos else None
        return cls.of_tokens([*([] if bos is None else [bos]), *tokens], n_ctx, n_chunks, bos=bos)

    @classmethod
    def of_tokens(
        cls, tokens: Sequence[int], n_ctx: int, n_chunks: int | None = None, *, bos: int | None = None
    ) -> Chunks:
        """Cut tokens into chunks; `bos`, if any, takes the place of each chunk's first.

        Raises:
            RequestError: as `of_text`.
        """
        if n_ctx < N_CTX_MIN:
            raise RequestError(f"n_ctx is {n_ctx}; a chunk has at least {N_CTX_MIN} tokens.", hint="Use --n-ctx 512.")
        if n_chunks is not None and n_chunks < 1:
            raise RequestError(f"{n_chunks} chunks; there must be at least 1.", hint="Leave --chunks out for all.")
        n_there = len(tokens) // n_ctx
        if not n_there:
            raise RequestError(
                f"The text has {len(tokens)} tokens; a chunk takes {n_ctx}.",
                hint="Give a longer text, or a smaller --n-ctx.",
            )
        starts = [n_ctx * chunk for chunk in range(min(n_there, n_chunks or n_there))]
        cut = (tuple(tokens[start : start + n_ctx]) for start in starts)
        return cls(n_ctx, tuple(chunk if bos is None else (bos, *chunk[1:]) for chunk in cut))
