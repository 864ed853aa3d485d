"""Every family: a tiny random model as transformers saves it, converted, and computed by llama.cpp to the same numbers.

Every parameter is random, norms and biases too. Both compute in float32 but for llama.cpp's GELU on a CPU, which is a
table of 16-bit numbers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localllm.convert import convert
from localllm.convert.families import Family
from localllm.convert.safetensors import read_tensors
from localllm.llama import Batch, Context, ContextParams, Model
from localllm.llama.context import DECODE_OK
from tests.convert.checkpoints import safetensors_bytes
from tests.convert.logits import logits_with
from tests.llama.running import difference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.convert.zoo import DECODERS, ENCODERS, RERANKERS, Case, save  # noqa: E402

TOKENS = np.random.default_rng(1).integers(0, 260, 40).tolist()


def vectors_of(path: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Return llama.cpp's vector of each token: [n_tokens, n_embd]."""
    batch = Batch(len(tokens))
    batch.add_outputs(tokens, 0, 0)
    params = ContextParams(n_ctx=256, n_threads=1, embeddings=True, pooling="none", flash_attention=False)
    with Model(path) as model, Context(model, params) as context:
        assert context.decode(batch) == DECODE_OK
        return np.stack([context.embedding(index) for index in range(len(tokens))])


def n_unique(model: torch.nn.Module) -> int:
    """Return the number of parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("case", DECODERS, ids=lambda case: case.name)
def test_logits_are_those_of_transformers(tmp_path: Path, case: Case) -> None:
    model = save(case, tmp_path / case.name)
    made = convert(tmp_path / case.name, tmp_path / "out.gguf", "f32")
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].float().numpy()
    assert difference(logits_with(tmp_path / "out.gguf", TOKENS), expected) <= case.tolerance
    assert 0 <= made.n_params - n_unique(model) <= 16, "nothing is left out; frequencies may be added"


@pytest.mark.parametrize("case", ENCODERS, ids=lambda case: case.name)
def test_vectors_are_those_of_transformers(tmp_path: Path, case: Case) -> None:
    model = save(case, tmp_path / case.name)
    convert(tmp_path / case.name, tmp_path / "out.gguf", "f32")
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).last_hidden_state[0].numpy()
    assert difference(vectors_of(tmp_path / "out.gguf", TOKENS), expected) <= case.tolerance


@pytest.mark.parametrize("case", RERANKERS, ids=lambda case: case.name)
def test_scores_are_those_of_transformers(tmp_path: Path, case: Case) -> None:
    model = save(case, tmp_path / "reranker")
    convert(tmp_path / "reranker", tmp_path / "out.gguf", "f32")
    with torch.no_grad():
        expected = float(model(torch.tensor([TOKENS])).logits[0, 0])
    batch = Batch(len(TOKENS))
    batch.add_outputs(TOKENS, 0, 0)
    params = ContextParams(n_ctx=256, n_threads=1, embeddings=True, pooling="rank", flash_attention=False)
    with Model(tmp_path / "out.gguf") as loaded, Context(loaded, params) as context:
        assert context.decode(batch) == DECODE_OK
        assert abs(float(context.pooled_embedding(0)[0]) - expected) <= case.tolerance * max(1.0, abs(expected))


def reversed_experts(family: Any, name: str, parts: Any) -> Any:
    return [parts[index] for index in sorted(parts, reverse=True)]


MUTANTS = (
    ("llama-2", "families.llama.neighbours", lambda weights, n_head: weights),
    ("llama-3", "rope.Rope._llama3_factors", lambda rope: [1.0] * (rope.dim // 2)),
    ("llama-yarn", "rope.Rope._add_yarn", lambda rope, writer: None),
    ("gemma-2", "families.gemma.Gemma.output", Family.output),
    ("gemma-2", "families.gemma.Gemma2._cap", lambda *_: 1e6),
    ("gemma-3", "families.gemma.Gemma3._window_base", lambda _: 1e6),
    ("gemma-3-other-windows", "families.gemma.Gemma._slides", lambda _: None),
    ("phi-3-long-short", "rope.Rope.attention_factor", 1.0),
    ("gpt-2", "families.gpt2._TRANSPOSED", ("attn_qkv.weight", "ffn_up.weight", "ffn_down.weight")),
    ("mixtral", "families.base.Family._all_experts", reversed_experts),
)


@pytest.mark.parametrize(("name", "target", "wrong"), MUTANTS, ids=[target for _, target, _ in MUTANTS])
def test_wrong_rule_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, target: str, wrong: object
) -> None:
    case = next(case for case in DECODERS if case.name == name)
    model = save(case, tmp_path / name)
    monkeypatch.setattr(f"localllm.convert.{target}", wrong)
    convert(tmp_path / name, tmp_path / "out.gguf", "f32")
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    assert difference(logits_with(tmp_path / "out.gguf", TOKENS), expected) > 5 * case.tolerance


def test_language_model_of_a_model_that_sees_is_the_language_model(tmp_path: Path) -> None:
    case = next(case for case in DECODERS if case.name == "gemma-3")
    save(case, tmp_path / "text")
    convert(tmp_path / "text", tmp_path / "text.gguf", "f32")
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    stored = read_tensors(tmp_path / "text" / "model.safetensors")
    for prefix in ("language_model.model.", "model.language_model."):
        folder = tmp_path / prefix
        shutil.copytree(tmp_path / "text", folder)
        seeing = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": config}
        (folder / "config.json").write_text(json.dumps(seeing))
        renamed = {prefix + name.removeprefix("model."): tensor.read() for name, tensor in stored.items()}
        eyes = {"vision_tower.embeddings.weight": np.ones((2, 2), np.float32)}
        (folder / "model.safetensors").write_bytes(safetensors_bytes(renamed | eyes))
        made = convert(folder, tmp_path / "seeing.gguf", "f32")
        assert "only its language model" in made.notes[0]
        np.testing.assert_array_equal(
            logits_with(tmp_path / "seeing.gguf", TOKENS), logits_with(tmp_path / "text.gguf", TOKENS)
        )


@pytest.mark.parametrize("case", [DECODERS[0]], ids=lambda case: case.name)
def test_half_precision_checkpoint_is_read_exactly(tmp_path: Path, case: Case) -> None:
    model = save(case, tmp_path / "whole").to(torch.bfloat16)
    (tmp_path / "half").mkdir()
    for file in (tmp_path / "whole").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(tmp_path / "half")
    convert(tmp_path / "half", tmp_path / "out.gguf", "bf16")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "half", dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        expected = loaded(torch.tensor([TOKENS])).logits[0].numpy()
    assert difference(logits_with(tmp_path / "out.gguf", TOKENS), expected) <= 2e-2
    convert(tmp_path / "half", tmp_path / "out.gguf", "f32")
    assert difference(logits_with(tmp_path / "out.gguf", TOKENS), expected) <= case.tolerance
