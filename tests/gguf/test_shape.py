"""A model's numbers come out of its header, and impossible ones are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import InvalidModelFile, RequestError
from localllm.gguf import GGUFHeader, ModelShape, check_loadable, read_header
from tests.bert import BertConfig, random_checkpoint, tiny_vocabulary, write_bert
from tests.gguf.raw import TEXT, U32, gguf_bytes, pair, write
from tests.tiny_model import vocabulary, write_tiny_model


def shape_of(folder: Path, **options: Any) -> ModelShape:
    return ModelShape.from_header(read_header(write_tiny_model(folder / "tiny.gguf", **options)))


def raw_shape(folder: Path, arch: str, numbers: dict[str, int]) -> ModelShape:
    numbers = {"block_count": 2, "embedding_length": 64, "context_length": 128} | numbers
    pairs = [pair("general.architecture", TEXT, arch)]
    pairs += [pair(f"{arch}.{key}", U32, value) for key, value in numbers.items()]
    return ModelShape.from_header(read_header(write(folder / "raw.gguf", gguf_bytes(pairs))))


def test_tiny_model(tmp_path: Path) -> None:
    shape = shape_of(tmp_path)
    assert (shape.architecture, shape.n_layer, shape.n_embd, shape.n_ff) == ("llama", 2, 64, 128)
    assert (shape.n_head, shape.n_head_kv) == ((2, 2), (1, 1))
    assert (shape.head_dim_k, shape.head_dim_v, shape.n_ctx_train) == (32, 32, 512)
    assert shape.n_vocab == len(vocabulary())
    assert not shape.is_recurrent
    assert not shape.is_hybrid


def test_kv_bytes_per_token_follow_the_cache_types(tmp_path: Path) -> None:
    shape = shape_of(tmp_path)
    assert shape.kv_bytes_per_token() == 2 * (32 + 32) * 2
    assert shape.kv_bytes_per_token("q8_0", "f16") == 2 * (34 + 64)
    assert shape.layer_kv_bytes_per_token(0, "q4_0", "q4_0") == 18 + 18


def test_impossible_cache_types_are_refused(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, head_dim=40)
    with pytest.raises(RequestError, match="q8_0 has blocks of 32; this model's heads are 40 wide"):
        shape.kv_bytes_per_token("q8_0")
    with pytest.raises(RequestError, match="No such KV cache type: q9"):
        shape.kv_bytes_per_token("f16", "q9")


def test_weights_add_up(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", n_layer=3)
    header = read_header(path)
    weights = ModelShape.from_header(header).weights
    parts = [*weights.layer_bytes, weights.token_embd_bytes, weights.output_bytes, weights.other_bytes]
    assert sum(parts) == weights.n_bytes == sum(t.n_bytes for t in header.tensors)
    assert len(set(weights.layer_bytes)) == 1
    assert weights.output_bytes == weights.token_embd_bytes + 64 * 4
    assert weights.n_params * 4 == weights.n_bytes
    assert weights.bpw == 32.0
    assert not weights.ties_embeddings


def test_heads_may_differ_between_layers(tmp_path: Path) -> None:
    shape = shape_of(
        tmp_path,
        arch="llama",
        extra={"llama.attention.sliding_window": 64, "llama.attention.sliding_window_pattern": [True, False],
               "llama.attention.key_length_swa": 16, "llama.attention.value_length_swa": 8},
    )  # fmt: skip
    assert shape.n_swa == 64
    assert (shape.kv_width_k, shape.kv_width_v) == ((16, 32), (8, 32))


def test_layers_without_attention_take_no_cache(tmp_path: Path) -> None:
    heads = {"attention.head_count": 2, "attention.head_count_kv": 1}
    hybrid = raw_shape(tmp_path, "qwen3next", heads | {"full_attention_interval": 2})
    assert hybrid.is_hybrid
    assert hybrid.kv_width_k == (0, 32)
    shared = raw_shape(tmp_path, "gemma4", heads | {"attention.shared_kv_layers": 1})
    assert shared.kv_width_k == (32, 0)
    latent = raw_shape(tmp_path, "deepseek2", heads | {"attention.key_length_mla": 192})
    assert (latent.kv_width_k, latent.kv_width_v) == ((32, 32), (0, 0))


def test_recurrent_model_has_no_heads_and_no_cache(tmp_path: Path) -> None:
    shape = raw_shape(tmp_path, "mamba", {"ssm.state_size": 16})
    assert shape.is_recurrent
    assert not shape.is_hybrid
    assert shape.kv_bytes_per_token() == 0


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"block_count": 0}, r"llama\.block_count is 0; 1 to 512 is allowed"),
        ({"block_count": 513}, r"llama\.block_count is 513; 1 to 512"),
        ({"embedding_length": 0}, r"llama\.embedding_length is 0"),
        ({"context_length": 0}, r"llama\.context_length is 0"),
        ({"nextn_predict_layers": 3}, r"nextn_predict_layers is 3; 0 to 2"),
        ({"attention.head_count": 0}, r"llama\.attention\.head_count is 0 or missing"),
        ({"attention.head_count": 3, "attention.head_count_kv": 2}, "layer 0 has 3 query heads for 2 key"),
        ({"attention.head_count": 128}, r"key_length is 0; 1 to"),
        ({"expert_count": 2000}, r"expert_count is 2,000; 0 to 1,024"),
        ({"expert_count": 4, "expert_used_count": 5}, "uses 5 experts of 4"),
        ({"expert_count": 4}, "uses 0 experts of 4"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidModelFile, match=message):
        raw_shape(tmp_path, "llama", {"attention.head_count": 2} | numbers)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.attention.head_count": [2, 2, 2]}, "has 3 entries for 2 layers"),
        ({"llama.context_length": "many"}, "is of type str where a whole number"),
        ({"llama.feed_forward_length": [1] * 600}, "has 600 entries; a model has at most 512"),
        ({"general.type": "adapter"}, "is not a language model but a LoRA adapter"),
    ],
)
def test_wrong_kinds_are_refused(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    header = replaced(write_tiny_model(tmp_path / "tiny.gguf"), extra)
    with pytest.raises(InvalidModelFile, match=message):
        ModelShape.from_header(header)


def replaced(path: Path, extra: dict[str, Any]) -> GGUFHeader:
    """A header whose metadata also holds what a file with `extra` would."""
    other = write_tiny_model(path.with_name("extra.gguf"), extra={f"x.{key}": v for key, v in extra.items()})
    found = read_header(other)
    values = {key: found.metadata[f"x.{key}"] for key in extra}
    types = {key: found.metadata_types[f"x.{key}"] for key in extra}
    header = read_header(path)
    return replace(header, metadata={**header.metadata, **values}, metadata_types={**header.metadata_types, **types})


def test_missing_number_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "raw.gguf", gguf_bytes())
    with pytest.raises(InvalidModelFile, match=r"llama\.block_count is missing"):
        ModelShape.from_header(read_header(path))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama.rope.scaling.type": "magic"}, "is 'magic'; none, linear, yarn, longrope are known"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "is nan; 0 is the least"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "is -1; 0 is the least"),
        ({"llama.expert_group_count": 3}, "uses 0 of 3 groups of its 0 experts"),
        ({"tokenizer.ggml.tokens": ["a", "b", "a"]}, "token 2 repeats an earlier one, 'a'"),
        ({"tokenizer.ggml.tokens": ["a", "b", "a\0b"]}, "token 2 repeats an earlier one, 'a'"),
        ({"tokenizer.ggml.tokens": ["", "[EMPTY_0]"]}, "token 1 repeats an earlier one"),
        ({"tokenizer.ggml.tokens": [1, 2]}, r"tokens is of type arr\[i32\] where arr\[str\]"),
    ],
)
def test_what_would_end_the_process_is_refused(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    header = replaced(write_tiny_model(tmp_path / "tiny.gguf"), extra)
    with pytest.raises(InvalidModelFile, match=message):
        check_loadable(header)


def test_tiny_model_is_loadable(tmp_path: Path) -> None:
    assert check_loadable(read_header(write_tiny_model(tmp_path / "tiny.gguf"))).n_layer == 2


def encoder(folder: Path, **changes: Any) -> Path:
    config = BertConfig(n_layer=1)
    weights = random_checkpoint(config, len(tiny_vocabulary()), n_classes=changes.pop("n_classes", 0))
    return write_bert(folder / "bert.gguf", weights, config, tiny_vocabulary(), **changes)


def test_encoder_keeps_no_keys_and_says_how_it_pools(tmp_path: Path) -> None:
    shape = check_loadable(read_header(encoder(tmp_path, pooling="cls")))
    assert (shape.is_encoder, shape.keeps_kv, shape.pooling, shape.can_rank) == (True, False, "cls", False)
    assert shape.kv_bytes_per_token() == 0


def test_reranker_is_one_whose_output_layer_is_there(tmp_path: Path) -> None:
    assert ModelShape.from_header(read_header(encoder(tmp_path, pooling="rank", n_classes=1))).can_rank
    assert not ModelShape.from_header(read_header(encoder(tmp_path, pooling="rank"))).can_rank


def test_decoder_that_looks_ahead_is_an_encoder_with_keys(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, extra={"llama.attention.causal": False})
    assert (shape.is_encoder, shape.keeps_kv) == (True, True)
    plain = shape_of(tmp_path)
    assert (plain.is_encoder, plain.pooling) == (False, None)


@pytest.mark.parametrize("number", [5, 4096, 2**32 - 1])
def test_unknown_pooling_is_as_good_as_none(tmp_path: Path, number: int) -> None:
    assert shape_of(tmp_path, extra={"llama.pooling_type": number}).pooling is None
