"""Conversion of a tiny Llama: what the file holds, and what bad input leads to. No transformers needed."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.convert import convert, known_architectures
from localllm.convert.families.llama import neighbours
from localllm.errors import (
    InvalidCheckpoint,
    LocalLLMError,
    ModelNotFound,
    NotEnoughDisk,
    RequestError,
    UnsupportedModel,
)
from localllm.llama import Model
from tests.convert.checkpoints import (
    N_HEAD,
    N_HEAD_KV,
    llama_config,
    llama_weights,
    safetensors_bytes,
    write_llama,
    write_sharded_llama,
)
from tests.tiny_model import CHATML, SPECIALS, vocabulary


def tensors_of(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def value(path: Path, key: str) -> object:
    field = gguf.GGUFReader(path).fields[key]
    return field.contents()


def test_every_weight_is_there_under_llama_cpps_name(tmp_path: Path) -> None:
    made = convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf", "f32")
    found, weights = tensors_of(tmp_path / "out.gguf"), llama_weights()
    assert made.n_params == sum(weight.size for weight in weights.values())
    assert made.n_bytes == (tmp_path / "out.gguf").stat().st_size and made.architecture == "llama"
    np.testing.assert_array_equal(found["token_embd.weight"].data, weights["model.embed_tokens.weight"])
    np.testing.assert_array_equal(found["blk.1.ffn_down.weight"].data, weights["model.layers.1.mlp.down_proj.weight"])
    for name, n_head in (("q", N_HEAD), ("k", N_HEAD_KV)):
        source = weights[f"model.layers.0.self_attn.{name}_proj.weight"]
        np.testing.assert_array_equal(found[f"blk.0.attn_{name}.weight"].data, neighbours(source, n_head))


def test_neighbours_are_the_halves_of_a_head_in_turn() -> None:
    rows = np.arange(12, dtype=np.float32)
    np.testing.assert_array_equal(neighbours(rows, 2), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])


@pytest.mark.parametrize(("wanted", "bits"), [("f32", 32), ("bf16", 16), ("f16", 16), ("q8_0", 8.5)])
def test_matrices_get_the_type_and_vectors_stay(tmp_path: Path, wanted: str, bits: float) -> None:
    convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf", wanted)  # type: ignore[arg-type]
    found = tensors_of(tmp_path / "out.gguf")
    matrix, vector = found["blk.0.ffn_up.weight"], found["blk.0.attn_norm.weight"]
    assert matrix.tensor_type.name == wanted.upper() and 8 * matrix.n_bytes / matrix.n_elements == bits
    assert vector.tensor_type.name == "F32"
    exact = llama_weights()["model.layers.0.mlp.up_proj.weight"]
    error = np.abs(gguf.dequantize(matrix.data, matrix.tensor_type) - exact).max()
    assert error <= {"f32": 0, "bf16": 2**-8, "f16": 2**-10, "q8_0": 1 / 64}[wanted] * np.abs(exact).max()
    with Model(tmp_path / "out.gguf") as model:
        assert wanted.upper() in model.description or wanted in ("f32", "bf16")


def test_shards_give_the_same_file(tmp_path: Path) -> None:
    convert(write_llama(tmp_path / "one" / "tiny"), tmp_path / "one.gguf")
    convert(write_sharded_llama(tmp_path / "many" / "tiny"), tmp_path / "many.gguf")
    one, many = tensors_of(tmp_path / "one.gguf"), tensors_of(tmp_path / "many.gguf")
    assert {name: bytes(tensor.data) for name, tensor in one.items()} == {
        name: bytes(tensor.data) for name, tensor in many.items()
    }


def test_tokenizer_and_template_come_along(tmp_path: Path) -> None:
    convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf")
    with Model(tmp_path / "out.gguf") as model:
        assert [model.vocab.text(token) for token in range(model.vocab.n_tokens)] == vocabulary()
        assert model.chat_template() == CHATML
        assert (model.vocab.bos, model.vocab.eos) == tuple(vocabulary().index(text) for text in SPECIALS[1:])
        assert not model.vocab.add_bos and not model.vocab.add_eos
        assert model.vocab.is_control(vocabulary().index(SPECIALS[0]))


def test_tied_output_is_not_written_twice(tmp_path: Path) -> None:
    convert(write_llama(tmp_path / "llama", tie_word_embeddings=True), tmp_path / "out.gguf")
    assert "output.weight" not in tensors_of(tmp_path / "out.gguf")


def test_card_is_read(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "Tiny-Llama-Instruct")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage:\n- en\n---\n# Tiny\n")
    convert(folder, tmp_path / "out.gguf")
    assert value(tmp_path / "out.gguf", "general.license") == "apache-2.0"
    assert value(tmp_path / "out.gguf", "general.languages") == ["en"]
    assert "Tiny" in str(value(tmp_path / "out.gguf", "general.name"))


def test_card_that_makes_no_sense_is_no_obstacle(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    (folder / "README.md").write_text("---\nlicense: [: }\n---\n")
    assert convert(folder, tmp_path / "out.gguf").n_tensors > 0


# What cannot be converted.

Damage = Callable[[Path], object]


def rewrite(folder: Path, **weights: np.ndarray | None) -> None:
    """Replace tensors of the checkpoint; None leaves one out."""
    changed = {**llama_weights(), **weights}
    kept = {name: weight for name, weight in changed.items() if weight is not None}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(kept))


def reconfigure(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(llama_config(**changes)))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_value(name: str, bad: float) -> np.ndarray:
    weight = llama_weights()[name].copy()
    weight.reshape(-1)[-1] = bad
    return weight


UP, NORM = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
BAD: list[tuple[str, Damage, type[LocalLLMError], str]] = [
    ("truncated", lambda f: os.truncate(f / "model.safetensors", 5000), InvalidCheckpoint, "model.safetensors: "),
    ("pickle", pickled, InvalidCheckpoint, "are a pickle, pytorch_model.bin"),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), InvalidCheckpoint, "holds no model"),
    ("no config", lambda f: (f / "config.json").unlink(), InvalidCheckpoint, "holds no config.json"),
    ("broken config", lambda f: (f / "config.json").write_text("{"), InvalidCheckpoint, "config.json is no JSON"),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), InvalidCheckpoint, "no tokenizer.json"),
    ("not a number", lambda f: rewrite(f, **{UP: with_value(UP, np.nan)}), InvalidCheckpoint, "blk.1.ffn_up.weight"),
    ("infinite", lambda f: rewrite(f, **{NORM: with_value(NORM, np.inf)}), InvalidCheckpoint, "infinite or no number"),
    ("whole numbers", lambda f: rewrite(f, **{UP: np.zeros((96, 64), np.int64)}), InvalidCheckpoint, "is I64"),
    ("missing tensor", lambda f: rewrite(f, **{UP: None}), InvalidCheckpoint, "blk.1.ffn_up.weight"),
    ("missing output", lambda f: rewrite(f, **{"lm_head.weight": None}), InvalidCheckpoint, "lm_head.weight is"),
    ("missing norm", lambda f: rewrite(f, **{NORM: None}), LocalLLMError, "output_norm"),
    ("wrong shape", lambda f: rewrite(f, **{UP: np.zeros((95, 64), np.float32)}), LocalLLMError, "blk.1.ffn_up.weight"),
    ("wrong heads", lambda f: reconfigure(f, num_attention_heads=8), InvalidCheckpoint, "attn_q|attn_k"),
    ("unknown tensor", lambda f: rewrite(f, extra=np.ones(3, np.float32)), UnsupportedModel, "'extra'"),
    ("unknown class", lambda f: reconfigure(f, architectures=["WhateverLM"]), UnsupportedModel, "'WhateverLM'"),
    ("nothing named", lambda f: reconfigure(f, architectures=None, model_type=None), InvalidCheckpoint, "neither"),
    ("other activation", lambda f: reconfigure(f, hidden_act="relu"), UnsupportedModel, 'hidden_act is "relu"'),
    ("odd scaling", lambda f: reconfigure(f, rope_scaling={"type": "dynamic"}), UnsupportedModel, "dynamic"),
    ("no heads", lambda f: reconfigure(f, num_attention_heads=0), InvalidCheckpoint, "num_attention_heads is 0"),
    ("text for a number", lambda f: reconfigure(f, hidden_size="64"), InvalidCheckpoint, "hidden_size"),
    ("quantized", lambda f: reconfigure(f, quantization_config={"quant_method": "gptq"}), UnsupportedModel, "gptq"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "kind", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_a_clear_error_and_no_file(
    tmp_path: Path, damage: Damage, kind: type[LocalLLMError], words: str
) -> None:
    folder = write_llama(tmp_path / "in" / "llama")
    damage(folder)
    (tmp_path / "out").mkdir()
    with pytest.raises(kind, match=words) as caught:
        convert(folder, tmp_path / "out" / "out.gguf")
    assert caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_architecture_says_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"'MambaForCausalLM' \(model_type 'mamba'\)") as caught:
        convert(
            write_llama(tmp_path / "x", architectures=["MambaForCausalLM"], model_type="mamba"), tmp_path / "o.gguf"
        )
    assert all(name in str(caught.value.hint) for name in known_architectures())


@pytest.mark.parametrize("how", ["indexed", "by names"])
def test_missing_shard_is_named(tmp_path: Path, how: str) -> None:
    folder = write_sharded_llama(tmp_path / "llama")
    (folder / "model-00002-of-00003.safetensors").unlink()
    if how == "by names":
        (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InvalidCheckpoint, match=r"1 of 3 files .* model-00002-of-00003"):
        convert(folder, tmp_path / "out.gguf")


def test_index_leads_nowhere_else(tmp_path: Path) -> None:
    folder = write_sharded_llama(tmp_path / "llama")
    index = {"weight_map": {"lm_head.weight": "../model-00001-of-00003.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidCheckpoint, match="no map"):
        convert(folder, tmp_path / "out.gguf")


def test_weight_beyond_f16_says_which_type_to_take(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    rewrite(folder, **{UP: with_value(UP, 70000.0)})
    with pytest.raises(RequestError, match=r"70000; f16 ends at 65504"):
        convert(folder, tmp_path / "out.gguf", "f16")
    convert(folder, tmp_path / "out.gguf", "bf16")


def test_folder_that_is_not_there_and_one_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        convert(tmp_path / "nowhere", tmp_path / "out.gguf")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="is a file"):
        convert(tmp_path / "file", tmp_path / "out.gguf")


def test_target_that_cannot_be_written(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    for target in (tmp_path, tmp_path / "nowhere" / "out.gguf"):
        with pytest.raises(RequestError, match="Cannot write"):
            convert(folder, target)


# Room on disk, interruption, and what others left.


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    with pytest.raises(NotEnoughDisk, match="1,000 free"):
        convert(write_llama(tmp_path / "in" / "llama"), tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_disk_that_becomes_full_leaves_the_old_file(tmp_path: Path) -> None:
    def full(n_done: int, n_total: int) -> None:
        if n_done > n_total / 2:
            raise OSError(28, "No space left on device")

    (tmp_path / "out.gguf").write_text("the old file")
    with pytest.raises(NotEnoughDisk, match=r"Cannot write .*out\.gguf: No space left"):
        convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf", on_progress=full)
    assert (tmp_path / "out.gguf").read_text() == "the old file"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.gguf"]


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf", on_progress=stop)
    assert not list(tmp_path.glob("out*"))


def test_progress_ends_at_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(write_llama(tmp_path / "llama"), tmp_path / "out.gguf", on_progress=lambda *n: seen.append(n))
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "llama")
    for name in ("a", "b"):
        convert(folder, tmp_path / f"{name}.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
