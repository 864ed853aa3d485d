"""Real weights there and back: SmolLM2 from its GGUF file through transformers, and MiniLM's own checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.convert import convert, convert_adapter
from localllm.hardware.types import LoadOptions
from localllm.llama import Model, ModelParams
from localllm.llm import LLM
from localllm.runtime import open_backend
from tests.bert import hidden_states, pooled, read_checkpoint
from tests.convert.adapters import RANK, merge, random_halves, write_adapter
from tests.convert.logits import logits_with
from tests.demo_model import require_demo_model
from tests.minilm import require_minilm

pytestmark = [pytest.mark.slow, pytest.mark.real]

TEXTS = (
    "Hello, world! It's 3.14 o'clock; we'LL see.",
    "tabs\t\tand\nnew\n\n\nlines\r\n  and   spaces  ",
    "def f(x):\n    return {'a': x ** 2, \"b\": [1, 22, 333]}  # code\n",
    "Schrödinger's naïve café: 東京タワー, 😀 👩‍👩‍👧‍👦, русский, עברית",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as transformers saves it, and converted back."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    source, folder = require_demo_model(), tmp_path_factory.mktemp("smollm2") / "SmolLM2-135M-Instruct"
    model = transformers.AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # The weights are float32 by now; transformers still takes the model for a quantized one, and would not save it.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    convert(folder, folder / "back.gguf", "f32")
    return folder / "back.gguf"


def test_smollm2_has_the_same_weights(smollm2: Path) -> None:
    original = {tensor.name: tensor for tensor in gguf.GGUFReader(require_demo_model()).tensors}
    back = {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2).tensors}
    assert set(back) == set(original)
    for name, tensor in back.items():
        expected = gguf.dequantize(original[name].data, original[name].tensor_type)
        np.testing.assert_array_equal(tensor.data, expected.reshape(tensor.data.shape), err_msg=name)


def test_smollm2_makes_the_same_tokens(smollm2: Path) -> None:
    with (
        Model(require_demo_model(), ModelParams(vocab_only=True)) as one,
        Model(smollm2, ModelParams(vocab_only=True)) as other,
    ):
        assert one.chat_template() == other.chat_template()
        assert (one.vocab.bos, one.vocab.eos) == (other.vocab.bos, other.vocab.eos)
        for text in TEXTS:
            expected = one.vocab.tokenize(text, add_special=True, parse_special=True)
            assert other.vocab.tokenize(text, add_special=True, parse_special=True) == expected


def test_an_adapter_of_smollm2_does_what_it_does_in_transformers(smollm2: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shutil.copytree(smollm2.parent, tmp_path / "merged", ignore=shutil.ignore_patterns("*.gguf"))
    sizes = {"self_attn.q_proj": (576, 576), "self_attn.k_proj": (576, 192), "mlp.up_proj": (576, 1536)}
    modules = {f"model.layers.{layer}.{module}": shape for layer in range(30) for module, shape in sizes.items()}
    halves = random_halves(modules)
    write_adapter(tmp_path / "adapter", halves, lora_alpha=4.0)
    convert_adapter(tmp_path / "adapter", tmp_path / "adapter.gguf", require_demo_model())
    merge(tmp_path / "merged", halves, dict.fromkeys(modules, 4.0 / RANK))
    with Model(smollm2, ModelParams(vocab_only=True)) as model:
        tokens = model.vocab.tokenize(TEXTS[2], add_special=False, parse_special=False)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    with torch.no_grad():
        expected = merged(torch.tensor([tokens])).logits[0].float().numpy()
    found = logits_with(smollm2, tokens, tmp_path / "adapter.gguf")
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert np.abs(logits_with(smollm2, tokens) - expected).max() > 0.1 * np.abs(expected).max()


def test_minilm_embeds_as_its_checkpoint_says(tmp_path: Path) -> None:
    folder = require_minilm()
    made = convert(folder, tmp_path / "minilm.gguf", "f32")
    assert made.notes == ()
    weights, config, _ = read_checkpoint(folder)
    llm = LLM(open_backend(tmp_path / "minilm.gguf", LoadOptions(gpu_layers=0, n_threads=1), in_process=True))
    try:
        assert llm.tokenize("This is an example sentence", add_special=True) == [101, 2023, 2003, 2019, 2742, 6251, 102]
        for text, vector in zip(TEXTS, llm.embed(TEXTS).vectors, strict=True):
            expected = pooled(hidden_states(weights, config, llm.tokenize(text, add_special=True)), "mean")
            assert float(vector @ (expected / np.linalg.norm(expected))) > 0.9999
    finally:
        llm.close()


def test_minilm_makes_the_same_tokens(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    convert(require_minilm(), tmp_path / "minilm.gguf", "f32")
    expected = tokenizers.Tokenizer.from_file(str(require_minilm() / "tokenizer.json"))
    expected.no_truncation()
    expected.no_padding()
    with Model(tmp_path / "minilm.gguf", ModelParams(vocab_only=True)) as model:
        for text in TEXTS:
            assert model.vocab.tokenize(text, add_special=True, parse_special=True) == expected.encode(text).ids
