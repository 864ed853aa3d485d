"""Text as chunks: what llama-imatrix reads of one file, and an even mix of several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import Document, cut, read_documents
from localllm.errors import RequestError
from localllm.llama import Model
from tests.tiny_model import SPECIALS, vocabulary

WORDS = "The world in the hollow well. " * 40


def test_one_file_is_cut_like_llama_imatrix_cuts_it(tiny: Model) -> None:
    tokens = tiny.vocab.tokenize(WORDS, add_special=True, parse_special=False)
    found = cut([Document("text", WORDS)], tiny.vocab, n_ctx=32)
    n = len(tokens) // 32
    np.testing.assert_array_equal(found.tokens, np.array(tokens[: 32 * n]).reshape(n, 32))
    assert (found.n_chunks, found.n_ctx, found.n_tokens) == (n, 32, 32 * n)


class Vocab:
    """A vocabulary of letters with a BOS."""

    add_bos, bos, has_tokenizer = True, 0, True

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        assert not add_special
        return [0 if letter == "^" and parse_special else ord(letter) for letter in text]


def test_bos_begins_every_chunk_and_is_not_doubled() -> None:
    text = "".join(chr(100 + i) for i in range(63))
    found = cut([Document("text", text)], Vocab(), n_ctx=16)  # type: ignore[arg-type]
    assert found.tokens[:, 0].tolist() == [0] * 4
    # The first chunk keeps all letters behind its BOS; in the others, BOS takes the place of one.
    assert found.tokens[0, 1:].tolist() == list(range(100, 115))
    assert found.tokens[1, 1:].tolist() == list(range(116, 131))
    rendered = cut([Document("chat", "^" + text, has_specials=True)], Vocab(), n_ctx=16)  # type: ignore[arg-type]
    np.testing.assert_array_equal(rendered.tokens, found.tokens)


def test_special_text_is_a_token_only_where_it_is_meant(tiny: Model) -> None:
    text = "<|im_end|> a " * 40
    end = len(vocabulary()) - len(SPECIALS) + SPECIALS.index("<|im_end|>")
    plain, rendered = (
        cut([Document("text", text, has_specials)], tiny.vocab, n_ctx=16).tokens for has_specials in (False, True)
    )
    assert end not in plain and end in rendered


def test_rests_are_joined_and_few_chunks_are_as_mixed_as_many() -> None:
    Vocab.add_bos = False
    try:
        documents = [Document(str(i), chr(100 + i) * n) for i, n in enumerate((16 * 8 + 5, 16 * 4 + 5, 3, 3))]
        found = cut(documents, Vocab(), n_ctx=16)  # type: ignore[arg-type]
        kinds = ["".join(sorted({chr(token) for token in chunk})) for chunk in found.tokens.tolist()]
        assert sorted(kinds) == ["d"] * 8 + ["defg"] + ["e"] * 4
        assert kinds[:6].count("d") == 4 and kinds[:6].count("e") == 2
        few = cut(documents, Vocab(), n_ctx=16, n_chunks=6)  # type: ignore[arg-type]
        np.testing.assert_array_equal(few.tokens, found.tokens[:6])
    finally:
        Vocab.add_bos = True


def test_digest_knows_tokens_and_cut(tiny: Model) -> None:
    documents = [Document("text", WORDS)]
    one, same = (cut(documents, tiny.vocab, n_ctx=32).sha256 for _ in range(2))
    assert one == same
    assert one != cut(documents, tiny.vocab, n_ctx=16).sha256
    assert one != cut([Document("text", "x" + WORDS)], tiny.vocab, n_ctx=32).sha256


@pytest.mark.parametrize(
    ("text", "n_ctx", "n_chunks", "said"),
    [
        ("short", 512, None, "The text has 4 tokens; a chunk takes 512"),
        ("", 512, None, "The text has 0 tokens"),
        (WORDS, 15, None, "at least 16 tokens"),
        (WORDS, 512, 0, "0 chunks"),
    ],
)
def test_text_that_makes_no_chunk_is_refused(
    tiny: Model, text: str, n_ctx: int, n_chunks: int | None, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        cut([Document("text", text)], tiny.vocab, n_ctx, n_chunks)
    assert caught.value.hint


def test_files_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("käse".encode("latin-1"))
    (tmp_path / "bom.txt").write_bytes("\ufeffcheese".encode())
    assert [document.text for document in read_documents([tmp_path / "bom.txt"])] == ["cheese"]
    with pytest.raises(RequestError, match="byte 1 is 0xE4"):
        read_documents([tmp_path / "latin.txt"])
    with pytest.raises(RequestError, match="Cannot read"):
        read_documents([tmp_path / "none.txt"])
