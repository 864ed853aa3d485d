"""Damaged headers either parse or raise InvalidModelFile, and quickly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localllm.errors import InvalidModelFile
from localllm.gguf import check_loadable, read_header, summarize
from tests.gguf.raw import ARCH, ARRAY, I32, TEXT, U32, array, gguf_bytes, pair, tensor, text
from tests.tiny_model import write_tiny_model

EXTREMES = (
    0,
    1,
    0x7F,
    0xFF,
    0xFFFF,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 60,
    (1 << 63) - 1,
    (1 << 64) - 1,
)

_flip = st.tuples(st.just("flip"), st.floats(0, 1), st.integers(1, 255))
_insert = st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=40))
_delete = st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 64))
_replace = st.tuples(
    st.just("replace"),
    st.floats(0, 1),
    st.sampled_from(EXTREMES),
    st.sampled_from((1, 2, 4, 8)),
    st.booleans(),
)
MUTATIONS = st.lists(_flip | _insert | _delete | _replace, min_size=1, max_size=4)


def small_file() -> bytes:
    """A header of a few hundred bytes with every kind of field, so that most mutations hit something."""
    pairs = [
        ARCH,
        pair("split.count", 2, 1),
        pair("llama.block_count", U32, 1),
        pair("llama.embedding_length", U32, 64),
        pair("llama.context_length", U32, 512),
        pair("llama.attention.head_count", ARRAY, array(I32, 1, b"\x02\0\0\0")),
        pair("llama.attention.head_count_kv", U32, 1),
        pair("general.alignment", U32, 32),
        pair("general.type", TEXT, "model"),
        pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 3, text("a") + text("b") + text(""))),
    ]
    tensors = [tensor("token_embd.weight", (64, 3)), tensor("blk.0.attn_q.weight", (64, 2), 8, 768)]
    return gguf_bytes(pairs, tensors, n_data=1024)


def mutate(data: bytes, n_header: int, mutations: list[tuple[object, ...]]) -> bytes:
    """Apply mutations to the first `n_header` bytes."""
    head, rest = bytearray(data[:n_header]), data[n_header:]
    for kind, where, what, *more in mutations:
        at = int(where * max(len(head) - 1, 0))
        if kind == "flip" and head:
            head[at] ^= what
        elif kind == "insert":
            head[at:at] = what
        elif kind == "delete":
            del head[at : at + what]
        elif kind == "replace":
            size, aligned = more
            at = at // 4 * 4 if aligned else at
            head[at : at + size] = (what & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return bytes(head) + rest


def check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    start = time.perf_counter()
    refusal = refused(path)
    assert time.perf_counter() - start < 1
    assert refusal is None or (refusal.message.isprintable() and refusal.hint)


def refused(path: Path) -> InvalidModelFile | None:
    try:
        header = read_header(path)
        assert summarize(header).n_tensors == len(header.tensors)
        assert check_loadable(header).kv_bytes_per_token() >= 0
    except InvalidModelFile as error:
        return error
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def test_small_file_is_sound(folder: Path) -> None:
    path = folder / "sound.gguf"
    path.write_bytes(small_file())
    assert check_loadable(read_header(path)).n_vocab == 3


@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=MUTATIONS)
def test_mutated_header_parses_or_is_invalid(folder: Path, mutations: list[tuple[object, ...]]) -> None:
    data = small_file()
    check(folder / "mutated.gguf", mutate(data, len(data) - 1024, mutations))


def test_every_byte_flipped_parses_or_is_invalid(folder: Path) -> None:
    data = small_file()
    for at in range(len(data) - 1024):
        for mask in (0x01, 0x80, 0xFF):
            check(folder / "flipped.gguf", data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])


@pytest.mark.slow
@settings(max_examples=30_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=MUTATIONS)
def test_mutated_tiny_model_parses_or_is_invalid(folder: Path, mutations: list[tuple[object, ...]]) -> None:
    tiny = folder / "tiny.gguf"
    if not tiny.exists():
        write_tiny_model(tiny)
    check(folder / "mutated.gguf", mutate(tiny.read_bytes(), read_header(tiny).data_offset, mutations))
