"""Conversion of PEFT's adapters for the tiny Llama: what the file holds, and what bad input leads to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.convert import convert, convert_adapter, is_adapter
from localllm.convert.families.llama import neighbours
from localllm.errors import InvalidCheckpoint, LocalLLMError, ModelNotFound, RequestError, UnsupportedModel
from localllm.gguf import check_adapter, read_header
from localllm.llama import LoraAdapter, Model
from tests.convert.adapters import ALPHA, RANK, Weights, random_halves, write_adapter
from tests.convert.checkpoints import N_EMBD, N_FF, N_HEAD, N_LAYER, safetensors_bytes, write_llama

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
MODULES = {Q: (N_EMBD, N_EMBD), DOWN: (N_FF, N_EMBD)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, as a checkpoint and as a file, and an adapter of it."""
    convert(write_llama(tmp_path / "llama"), tmp_path / "llama.gguf", "f32")
    write_adapter(tmp_path / "adapter", random_halves(MODULES))
    return tmp_path


def halves_of(path: Path) -> dict[str, np.ndarray]:
    return {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape)))
        for tensor in gguf.GGUFReader(path).tensors
    }


def test_halves_have_llama_cpps_names_and_order(folder: Path) -> None:
    made = convert_adapter(folder / "adapter", folder / "a.gguf", folder / "llama.gguf")
    assert (made.architecture, made.n_tensors, made.notes) == ("llama", 4, ())
    found, halves = halves_of(folder / "a.gguf"), random_halves(MODULES)
    start = "base_model.model."
    np.testing.assert_array_equal(found["blk.0.attn_q.weight.lora_a"], halves[f"{start}{Q}.lora_A.weight"])
    rows = neighbours(halves[f"{start}{Q}.lora_B.weight"], N_HEAD)
    np.testing.assert_array_equal(found["blk.0.attn_q.weight.lora_b"], rows)
    np.testing.assert_array_equal(found["blk.1.ffn_down.weight.lora_b"], halves[f"{start}{DOWN}.lora_B.weight"])
    header = read_header(folder / "a.gguf")
    assert header.metadata["adapter.type"] == "lora" and header.metadata["adapter.lora.alpha"] == ALPHA
    assert header.metadata["general.type"] == "adapter" and header.metadata["general.name"] == "Adapter"


@pytest.mark.parametrize("wanted", ["f32", "f16", "bf16", "q8_0"])
def test_llama_cpp_loads_every_type(folder: Path, wanted: str) -> None:
    convert_adapter(folder / "adapter", folder / "a.gguf", folder / "llama.gguf", wanted)  # type: ignore[arg-type]
    check_adapter(read_header(folder / "a.gguf"), read_header(folder / "llama.gguf"), N_LAYER)
    with Model(folder / "llama.gguf") as model, LoraAdapter(model, folder / "a.gguf") as adapter:
        assert adapter.handle


def test_a_file_and_a_folder_and_config_json_alone_give_the_same(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_bytes((folder / "llama" / "config.json").read_bytes())
    by = {
        base: convert_adapter(folder / "adapter", folder / f"{base}.a", folder / base)
        for base in ("llama.gguf", "llama")
    }
    alone = convert_adapter(folder / "adapter", folder / "config.a", folder / "config")
    assert not any(made.notes for made in by.values()) and "shapes were not compared" in alone.notes[0]
    assert len({(folder / f"{base}.a").read_bytes() for base in ("llama.gguf", "llama", "config")}) == 1


def test_the_folder_that_the_adapter_names_is_taken(folder: Path) -> None:
    named = write_adapter(folder / "named", random_halves(MODULES), base_model_name_or_path=str(folder / "llama"))
    assert convert_adapter(named, folder / "a.gguf").n_tensors == 4


@pytest.mark.parametrize("name", ["someone/some-model", None])
def test_without_a_model_it_is_asked_for(folder: Path, name: str | None) -> None:
    adapter = write_adapter(folder / "nameless", random_halves(MODULES), base_model_name_or_path=name)
    with pytest.raises(RequestError, match=name or "names no model") as caught:
        convert_adapter(adapter, folder / "a.gguf")
    assert "--base" in str(caught.value.hint)


def test_alphas_of_their_own_go_into_b(folder: Path) -> None:
    patterned = write_adapter(
        folder / "patterned",
        random_halves(MODULES, {Q: 2}),
        rank_pattern={"q_proj": 2},
        alpha_pattern={r"layers\.1\..*": 3.0},
    )
    convert_adapter(patterned, folder / "a.gguf", folder / "llama.gguf")
    halves = random_halves(MODULES, {Q: 2})
    found = halves_of(folder / "a.gguf")["blk.1.ffn_down.weight.lora_b"]
    np.testing.assert_array_equal(found, halves[f"base_model.model.{DOWN}.lora_B.weight"] * np.float32(3.0 / ALPHA))


def test_rslora_changes_alpha(folder: Path) -> None:
    made = write_adapter(folder / "rs", random_halves(MODULES), use_rslora=True)
    convert_adapter(made, folder / "a.gguf", folder / "llama.gguf")
    assert read_header(folder / "a.gguf").metadata["adapter.lora.alpha"] == ALPHA * RANK**0.5


def test_only_a_folder_without_a_model_is_an_adapters(folder: Path) -> None:
    assert is_adapter(folder / "adapter") and not is_adapter(folder / "llama") and not is_adapter(folder / "llama.gguf")
    (folder / "llama" / "adapter_config.json").write_text("{}")
    assert not is_adapter(folder / "llama")


def test_the_copy_of_an_embedding_is_left_out(folder: Path) -> None:
    frozen = {"base_model.model.model.embed_tokens.base_layer.weight": np.zeros((10, N_EMBD), np.float32)}
    write_adapter(folder / "frozen", random_halves(MODULES) | frozen)
    assert convert_adapter(folder / "frozen", folder / "a.gguf", folder / "llama.gguf").n_tensors == 4


# What cannot be converted.

Change = Callable[[Weights], object]
START = "base_model.model."


def without(name: str) -> Change:
    return lambda halves: halves.pop(START + name)


def with_tensor(name: str, *shape: int) -> Change:
    return lambda halves: halves.update({START + name: np.ones(shape, np.float32)})


def renamed(old: str, new: str) -> Change:
    def change(halves: Weights) -> None:
        for name in list(halves):
            halves[name.replace(old, new)] = halves.pop(name)

    return change


def spoilt(value: float) -> Change:
    def change(halves: Weights) -> None:
        halves[f"{START}{DOWN}.lora_B.weight"][-1, -1] = value

    return change


def narrow(halves: Weights) -> None:
    halves.update(random_halves({Q: (32, N_EMBD)}))


def same(_: Weights) -> None: ...


BAD: list[tuple[str, dict[str, object], Change, type[LocalLLMError], str]] = [
    ("another kind", {"peft_type": "IA3"}, same, UnsupportedModel, "of type 'IA3'"),
    ("DoRA", {"use_dora": True}, same, UnsupportedModel, "use_dora is true"),
    ("whole modules", {"modules_to_save": ["lm_head"]}, same, UnsupportedModel, r'modules_to_save is \["lm_head"\]'),
    ("biases", {"bias": "lora_only"}, same, UnsupportedModel, 'bias is "lora_only"'),
    ("PiSSA", {"init_lora_weights": "pissa_niter_4"}, same, UnsupportedModel, "pissa_niter_4"),
    ("no alpha", {"lora_alpha": None}, same, InvalidCheckpoint, "adapter_config.json: lora_alpha is missing"),
    ("alpha of 0", {"lora_alpha": 0}, same, InvalidCheckpoint, "lora_alpha is 0"),
    ("another rank", {"r": 8}, same, InvalidCheckpoint, "names rank 8"),
    ("no expression", {"alpha_pattern": {"(": 2}}, same, InvalidCheckpoint, "no regular expression"),
    ("no numbers", {"alpha_pattern": {"q_proj": "2"}}, same, InvalidCheckpoint, "q_proj is"),
    ("one half", {}, without(f"{Q}.lora_B.weight"), InvalidCheckpoint, "one half only for 'model.layers.0"),
    ("magnitudes", {}, with_tensor(f"{Q}.lora_magnitude_vector", 64), UnsupportedModel, "lora_magnitude_vector"),
    ("a trained norm", {}, with_tensor("model.norm.weight", 64), UnsupportedModel, "norm.weight', which is no half"),
    ("no weights", {}, lambda halves: halves.clear(), InvalidCheckpoint, "holds no LoRA weights"),
    ("a layer too many", {}, renamed("layers.1", "layers.7"), InvalidCheckpoint, "layers.7.mlp.down_proj'"),
    ("another architecture", {}, renamed("self_attn.q_proj", "attention.query"), InvalidCheckpoint, "of architecture"),
    ("another width", {}, narrow, InvalidCheckpoint, r"needs \[4, 64\]"),
    ("an embedding as a matrix", {}, renamed(Q, "model.embed_tokens"), UnsupportedModel, "model.embed_tokens"),
    ("a vector", {}, with_tensor(f"{Q}.lora_A.weight", 4, 64, 1), InvalidCheckpoint, r"\[4, 64, 1\]"),
    ("not a number", {}, spoilt(np.nan), InvalidCheckpoint, "blk.1.ffn_down.weight.lora_b"),
    ("infinite", {}, spoilt(np.inf), InvalidCheckpoint, "infinite or no number"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "change", "kind", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_adapter_is_a_clear_error_and_no_file(
    folder: Path, config: dict[str, object], change: Change, kind: type[LocalLLMError], words: str
) -> None:
    halves = random_halves(MODULES)
    change(halves)
    (folder / "out").mkdir()
    bad = write_adapter(folder / "bad", halves, **config)
    with pytest.raises(kind, match=words) as caught:
        convert_adapter(bad, folder / "out" / "a.gguf", folder / "llama.gguf")
    assert caught.value.hint
    assert list((folder / "out").iterdir()) == []


def test_embedding_that_is_the_output_too_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "llama", tie_word_embeddings=True)
    for name, module, n_out in (("a", "model.embed_tokens", N_EMBD), ("b", "lm_head", 300)):
        write_adapter(tmp_path / name, random_halves({module: (300 if name == "a" else N_EMBD, n_out)}))
        with pytest.raises(UnsupportedModel, match=module) as caught:
            convert_adapter(tmp_path / name, tmp_path / "a.gguf", tmp_path / "llama")
        assert "merge_and_unload" in str(caught.value.hint)


def test_damaged_and_pickled_weights_are_refused(folder: Path) -> None:
    weights = folder / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    os.truncate(weights, len(whole) - 100)
    with pytest.raises(InvalidCheckpoint, match=r"adapter_model\.safetensors: its tensors take"):
        convert_adapter(folder / "adapter", folder / "a.gguf", folder / "llama.gguf")
    weights.write_bytes(safetensors_bytes({f"{START}{Q}.lora_A.weight": np.zeros((4, 64), np.int64)}))
    with pytest.raises(InvalidCheckpoint, match="one half"):
        convert_adapter(folder / "adapter", folder / "a.gguf", folder / "llama.gguf")
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(InvalidCheckpoint, match=r"a pickle, adapter_model\.bin"):
        convert_adapter(folder / "adapter", folder / "a.gguf", folder / "llama.gguf")


def test_rows_of_other_heads_are_found_out_by_config_json_alone(folder: Path) -> None:
    (folder / "llama" / "model.safetensors").unlink()
    adapter = write_adapter(folder / "narrow", random_halves({Q: (N_EMBD, N_EMBD // 2)}))
    with pytest.raises(InvalidCheckpoint, match=r"has the shape \[32, 4\] where config.json implies \[64, 4\]"):
        convert_adapter(adapter, folder / "a.gguf", folder / "llama")


def test_integers_are_no_halves(folder: Path) -> None:
    halves = {name: half.astype(np.int64) for name, half in random_halves(MODULES).items()}
    adapter = write_adapter(folder / "integers", halves)
    with pytest.raises(InvalidCheckpoint, match="is I64"):
        convert_adapter(adapter, folder / "a.gguf", folder / "llama.gguf")


def test_model_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model .*nowhere"):
        convert_adapter(folder / "adapter", folder / "a.gguf", folder / "nowhere")
