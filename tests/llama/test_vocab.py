"""Text to tokens and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.llama import Model, ModelParams, Vocab
from tests.tiny_model import SPECIALS, vocabulary, write_tiny_model


@pytest.fixture(scope="module")
def vocab(model: Model) -> Vocab:
    return model.vocab


def pieces(vocab: Vocab, tokens: list[int]) -> bytes:
    return b"".join(vocab.piece(token) for token in tokens)


@given(text=st.text())
def test_round_trip(model: Model, text: str) -> None:
    tokens = model.vocab.tokenize(text, add_special=False, parse_special=False)
    assert pieces(model.vocab, tokens) == text.encode("utf-8", "replace")
    assert all(0 <= token < model.vocab.n_tokens for token in tokens)


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "\ud800", "x\udfffy", "\N{GRINNING FACE}" * 500, "é" * 5000])
def test_round_trip_of_odd_text(vocab: Vocab, text: str) -> None:
    tokens = vocab.tokenize(text, add_special=False, parse_special=False)
    assert pieces(vocab, tokens) == text.encode("utf-8", "replace")


def test_merges_apply(vocab: Vocab) -> None:
    tokens = vocab.tokenize("the world the", add_special=False, parse_special=False)
    assert [vocab.piece(token) for token in tokens] == [b"t", b"he", b" wor", b"ld", b" the"]


@pytest.mark.parametrize("special", SPECIALS)
def test_specials_are_parsed_only_on_request(vocab: Vocab, special: str) -> None:
    token = vocabulary().index(special)
    assert vocab.tokenize(special, add_special=False, parse_special=True) == [token]
    plain = vocab.tokenize(special, add_special=False, parse_special=False)
    assert token not in plain and pieces(vocab, plain) == special.encode()


def test_special_tokens_have_no_text_unless_asked_for(vocab: Vocab) -> None:
    token = vocabulary().index("<|im_end|>")
    assert vocab.piece(token) == b""
    assert vocab.piece(token, special=True) == b"<|im_end|>"
    assert vocab.text(token) == "<|im_end|>"
    assert vocab.is_control(token) and not vocab.is_user_defined(token)


def test_which_tokens_mean_what(vocab: Vocab) -> None:
    names = vocabulary()
    assert vocab.bos == names.index("<|im_start|>")
    assert vocab.eos == vocab.eot == names.index("<|im_end|>")
    assert {vocab.eos, names.index("<|endoftext|>")} == set(vocab.eog_tokens)
    assert [token for token in range(vocab.n_tokens) if vocab.is_eog(token)] == list(vocab.eog_tokens)
    assert not vocab.add_bos and vocab.has_tokenizer


def test_bos_is_added_where_the_model_wants_it(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    key = b"tokenizer.ggml.add_bos_token" + (7).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(key + b"\0") == 1
    path.write_bytes(data.replace(key + b"\0", key + b"\1"))
    with Model(path, ModelParams(vocab_only=True)) as model:
        assert model.vocab.add_bos
        assert model.vocab.tokenize("a", add_special=True, parse_special=False)[0] == model.vocab.bos
        assert model.vocab.tokenize("a", add_special=False, parse_special=False)[0] != model.vocab.bos


def test_tokens_of_fill_in_the_middle_are_found_where_there_are_any(vocab: Vocab, tmp_path: Path) -> None:
    assert (vocab.fim_pre, vocab.fim_suf, vocab.fim_mid, vocab.fim_rep, vocab.fim_sep) == (None,) * 5
    names = ("pre", "suf", "mid", "rep", "sep")
    extra = {f"tokenizer.ggml.fim_{name}_token_id": 7 + index for index, name in enumerate(names)}
    with Model(write_tiny_model(tmp_path / "m.gguf", extra=extra), ModelParams(vocab_only=True)) as model:
        assert [getattr(model.vocab, f"fim_{name}") for name in names] == [7, 8, 9, 10, 11]


def test_long_pieces_are_whole(tmp_path: Path) -> None:
    long = "q" * 300
    path = write_tiny_model(tmp_path / "m.gguf")
    names = [*vocabulary()[:-1], long]
    assert len(names) == len(vocabulary())
    path = write_with_tokens(path, names)
    with Model(path, ModelParams(vocab_only=True)) as model:
        assert model.vocab.piece(len(names) - 1, special=True) == long.encode()


def write_with_tokens(path: Path, tokens: list[str]) -> Path:
    """Rewrite a model's token list."""
    import gguf

    source = gguf.GGUFReader(path)
    target = path.with_name("tokens.gguf")
    writer = gguf.GGUFWriter(target, "llama")
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = tokens if field.name == "tokenizer.ggml.tokens" else field.contents()
        sub_type = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type)
    for tensor in source.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
