"""A tiny model of each family, as transformers makes and saves it. Importing this needs torch and transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.convert.checkpoints import write_tokenizer
from tests.tiny_model import vocabulary

N_VOCAB = len(vocabulary())
Make = Callable[[], Any]
GELU = 1e-3
"""Tolerance where llama.cpp computes GELU on a CPU, from a table of 16-bit numbers."""


@dataclass(frozen=True)
class Case:
    """A model to convert."""

    name: str
    make: Make
    """Makes the model."""
    tolerance: float = 1e-5
    """Allowed largest difference of logits, over the largest logit; 3e-6 was measured, and 5e-4 with GELU."""


def sizes(**changes: object) -> dict[str, Any]:
    """Return the numbers that nearly all configurations have."""
    numbers = {
        "vocab_size": N_VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 271,
        "eos_token_id": 272,
        "pad_token_id": 270,
        "attn_implementation": "eager",
    }
    return numbers | changes


def of(config_class: str, **changes: object) -> Make:
    """Return what makes a causal language model of a configuration."""

    def make() -> Any:
        config = getattr(transformers, config_class)(**sizes(**changes))
        return transformers.AutoModelForCausalLM.from_config(config)

    return make


def encoder(model_class: str, config_class: str, **changes: object) -> Make:
    """Return what makes an encoder of a configuration."""

    def make() -> Any:
        numbers = sizes(**changes)
        del numbers["num_key_value_heads"]
        return getattr(transformers, model_class)(getattr(transformers, config_class)(**numbers))

    return make


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


def longrope(original: int) -> dict[str, Any]:
    """Return Phi-3's scaling; beyond `original` tokens the long factors count."""
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + i / 16 for i in range(8)],
        "long_factor": [1.0 + i for i in range(8)],
        "original_max_position_embeddings": original,
    }


def phi3(original: int) -> Make:
    return of(
        "Phi3Config",
        max_position_embeddings=4096,
        original_max_position_embeddings=original,
        rope_parameters=longrope(original),
        sliding_window=None,
    )


GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}
WINDOWS = {"layer_types": ["full_attention", "sliding_attention"] * 2, "num_hidden_layers": 4}

DECODERS = (
    Case("llama-2", of("LlamaConfig", num_key_value_heads=4)),
    Case("llama-3", of("LlamaConfig", rope_parameters=LLAMA3)),
    Case("llama-tied", of("LlamaConfig", tie_word_embeddings=True)),
    Case("llama-linear", of("LlamaConfig", rope_parameters=LINEAR)),
    Case("llama-yarn", of("LlamaConfig", rope_parameters=YARN)),
    Case("llama-biases", of("LlamaConfig", attention_bias=True, mlp_bias=True)),
    Case("mistral", of("MistralConfig", head_dim=32, sliding_window=None)),
    Case("qwen2", of("Qwen2Config")),
    Case("qwen2-yarn-tied", of("Qwen2Config", rope_parameters=YARN, tie_word_embeddings=True)),
    Case("qwen3", of("Qwen3Config", head_dim=32)),
    Case("smollm3", of("SmolLM3Config", num_hidden_layers=5)),
    Case("gemma-2", of("Gemma2Config", **GEMMA), GELU),
    Case("gemma-3", of("Gemma3TextConfig", num_hidden_layers=7, **GEMMA), GELU),
    Case("gemma-3-other-windows", of("Gemma3TextConfig", **GEMMA, **WINDOWS), GELU),
    Case("phi-3", of("Phi3Config", sliding_window=None)),
    Case("phi-3-part", of("Phi3Config", sliding_window=None, partial_rotary_factor=0.5)),
    Case("phi-3-long-short", phi3(1024)),
    Case("phi-3-long-long", phi3(16)),
    Case("gpt-2", of("GPT2Config", n_positions=512), GELU),
    Case("mixtral", of("MixtralConfig", num_local_experts=4, num_experts_per_tok=2, sliding_window=None)),
    Case(
        "qwen3-moe",
        of("Qwen3MoeConfig", head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
           norm_topk_prob=True, mlp_only_layers=[]),
    ),
)  # fmt: skip
XLM_ROBERTA = {"max_position_embeddings": 700, "type_vocab_size": 1}
"""Positions begin behind the padding token, 270."""
ENCODERS = (
    Case("bert", encoder("BertModel", "BertConfig"), GELU),
    Case("nomic", encoder("NomicBertModel", "NomicBertConfig")),
    Case("xlm-roberta", encoder("XLMRobertaModel", "XLMRobertaConfig", **XLM_ROBERTA), GELU),
)
RERANKERS = (
    Case("bert", encoder("BertForSequenceClassification", "BertConfig", num_labels=1), GELU),
    Case(
        "xlm-roberta",
        encoder("XLMRobertaForSequenceClassification", "XLMRobertaConfig", num_labels=1, **XLM_ROBERTA),
        GELU,
    ),
)


def randomised(model: Any, seed: int = 0) -> Any:
    """Draw every parameter anew: norms and biases too, since what is left at 1 or 0 may be dropped unnoticed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in dict(model.named_parameters()).values():
            if parameter.ndim == 1:
                parameter.copy_(0.3 * torch.randn_like(parameter) + parameter)
            else:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
    return model.eval()


def save(case: Case, folder: Path) -> Any:
    """Write the model of a case with the tiny tokenizer, and return it."""
    model = randomised(case.make())
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model
