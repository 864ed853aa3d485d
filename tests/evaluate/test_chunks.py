from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.errors import RequestError
from localllm.evaluate import Chunks, default_text, read_text
from localllm.llama import Model
from tests.tiny_model import vocabulary, write_tiny_model


@given(st.integers(16, 60), st.integers(16, 300), st.none() | st.integers(1, 9), st.none() | st.just(-1))
def test_chunks_are_consecutive_and_whole(n_ctx: int, n_tokens: int, n_chunks: int | None, bos: int | None) -> None:
    if n_tokens < n_ctx:
        return
    chunks = Chunks.of_tokens(range(n_tokens), n_ctx, n_chunks, bos=bos)
    assert chunks.n_chunks == min(n_tokens // n_ctx, n_chunks or n_tokens)
    for index, tokens in enumerate(chunks.tokens):
        expected = list(range(index * n_ctx, (index + 1) * n_ctx))
        assert list(tokens[1:]) == expected[1:]
        assert tokens[0] == (expected[0] if bos is None else bos)
    assert chunks.first + chunks.n_scored + 1 == n_ctx


def test_scored_tokens_are_llama_perplexitys() -> None:
    chunks = Chunks.of_tokens(range(1024), 512)
    assert (chunks.first, chunks.n_scored) == (256, 255)


@pytest.mark.parametrize("add_bos", [False, True])
def test_bos_opens_each_chunk_where_the_model_expects_it(tmp_path: Path, add_bos: bool) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", extra={"tokenizer.ggml.add_bos_token": add_bos})
    with Model(path) as model:
        chunks = Chunks.of_text("abcdefghijklmnop" * 4, model.vocab, n_ctx=16)
    bos = vocabulary().index("<|im_start|>")
    letters = [vocabulary().index(letter) for letter in "abcdefghijklmnop"]
    if add_bos:
        # The first BOS pushes the text on by one, as in llama-perplexity; each chunk's then takes a token's place.
        assert chunks.tokens[:2] == ((bos, *letters[:-1]), (bos, *letters[:-1]))
    else:
        assert chunks.tokens[:2] == (tuple(letters),) * 2


def test_special_tokens_in_a_text_are_plain_text(tmp_path: Path) -> None:
    with Model(write_tiny_model(tmp_path / "m.gguf")) as model:
        (tokens,) = Chunks.of_text("<|im_end|>" * 2, model.vocab, n_ctx=16).tokens
    assert vocabulary().index("<|im_end|>") not in tokens


@pytest.mark.parametrize(
    ("n_tokens", "n_ctx", "n_chunks", "said"),
    [
        (511, 512, None, r"has 511 tokens; a chunk takes 512"),
        (0, 512, None, r"has 0 tokens"),
        (99, 15, None, r"n_ctx is 15; a chunk has at least 16"),
        (99, 16, 0, r"0 chunks"),
    ],
)
def test_bad_values_are_refused_with_what_is_needed(n_tokens: int, n_ctx: int, n_chunks: int | None, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        Chunks.of_tokens(range(n_tokens), n_ctx, n_chunks)
    assert caught.value.hint


def test_default_text_is_plain_prose() -> None:
    text = default_text()
    assert text.startswith("CHAPTER I. Down the Rabbit-Hole") and len(text) > 50_000
    assert text.isascii() and "Gutenberg" not in text


def test_text_is_read_as_utf8_without_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes("\ufeffÄpfel\r\n".encode())
    assert read_text(file) == "Äpfel\r\n"


@pytest.mark.parametrize(("data", "said"), [(None, "No such file"), (b"ab\xff", "byte 2 is 0xFF")])
def test_unreadable_text_is_an_error(tmp_path: Path, data: bytes | None, said: str) -> None:
    file = tmp_path / "t.txt"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(RequestError, match=said):
        read_text(file)
