"""Which family a checkpoint belongs to, by the name of its class in transformers."""

from __future__ import annotations

import gguf

from localllm.convert.config import Config
from localllm.convert.families.base import Family
from localllm.convert.families.bert import Bert
from localllm.convert.families.gemma import Gemma2, Gemma3
from localllm.convert.families.gpt2 import GPT2
from localllm.convert.families.llama import Llama, Mistral, Mixtral
from localllm.convert.families.nomic import NomicBert
from localllm.convert.families.phi3 import Phi3
from localllm.convert.families.qwen import Qwen2, Qwen3, Qwen3Moe
from localllm.convert.families.smollm3 import SmolLM3
from localllm.convert.families.xlm_roberta import XlmRoberta
from localllm.errors import InvalidCheckpoint, UnsupportedModel

_FAMILIES: dict[str, type[Family]] = {
    "LlamaForCausalLM": Llama,
    "MistralForCausalLM": Mistral,
    "MixtralForCausalLM": Mixtral,
    "SmolLM3ForCausalLM": SmolLM3,
    "Qwen2ForCausalLM": Qwen2,
    "Qwen3ForCausalLM": Qwen3,
    "Qwen3MoeForCausalLM": Qwen3Moe,
    "Gemma2ForCausalLM": Gemma2,
    "Gemma3ForCausalLM": Gemma3,
    "Gemma3ForConditionalGeneration": Gemma3,
    "Phi3ForCausalLM": Phi3,
    "GPT2LMHeadModel": GPT2,
    "BertModel": Bert,
    "BertForMaskedLM": Bert,
    "BertForSequenceClassification": Bert,
    "XLMRobertaModel": XlmRoberta,
    "XLMRobertaForSequenceClassification": XlmRoberta,
    "NomicBertModel": NomicBert,
}
_CLASS_OF_TYPE = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
    "phi3": "Phi3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertModel",
    "xlm-roberta": "XLMRobertaModel",
    "nomic_bert": "NomicBertModel",
}
"""For a config.json that names no class: what its model_type is the language model of."""


def known_architectures() -> tuple[str, ...]:
    """Return the names of the classes that can be converted."""
    return tuple(_FAMILIES)


def family_of(config: Config) -> Family:
    """Return the family of a checkpoint.

    Raises:
        UnsupportedModel: it is none that is known.
        InvalidCheckpoint: config.json does not say what it is.
    """
    architectures, model_type = config.sequence("architectures"), config.get("model_type")
    if architectures:
        name = architectures[0]
    elif model_type is not None:
        name = _CLASS_OF_TYPE.get(model_type, model_type)
    else:
        raise InvalidCheckpoint(
            "config.json names neither architectures nor a model_type.", hint="Download config.json again."
        )
    if name not in _FAMILIES:
        raise UnsupportedModel(
            f"The architecture is {name!r} (model_type {model_type!r}), which cannot be converted.",
            hint=f"Known are {', '.join(_FAMILIES)}.",
        )
    family = _FAMILIES[name](config)
    family.check()
    return family


def family_of_converted(architecture: str, config: Config) -> Family:
    """Return the family of a model that is a GGUF file already.

    Args:
        architecture: llama.cpp's name.
        config: what the file says, in config.json's words.

    Raises:
        UnsupportedModel: it is none that is known.
    """
    for kind in _FAMILIES.values():
        if gguf.MODEL_ARCH_NAMES[kind.arch] == architecture:
            return kind(config)
    known = sorted({gguf.MODEL_ARCH_NAMES[kind.arch] for kind in _FAMILIES.values()})
    raise UnsupportedModel(f"The architecture is {architecture!r}.", hint=f"Known are {', '.join(known)}.")
