"""Gemma 2, and the language model of Gemma 3.

Gemma's norms multiply by 1 + w, llama.cpp's by w: so 1 is added. The embedding is the output layer, and llama.cpp
scales it by √n_embd itself.
"""

from __future__ import annotations

import re
from typing import ClassVar

import gguf

from localllm.convert.config import Config
from localllm.convert.families.decoder import Decoder
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import OutputTensor, changed
from localllm.errors import UnsupportedModel

_SLIDING = "sliding_attention"
_LANGUAGE_MODEL = re.compile(r"^(?:language_model\.model\.|model\.language_model\.|language_model\.)")
_OTHER_SENSES = re.compile(r"^(?:model\.)?(?:vision_tower|multi_modal_projector|audio_tower)\.")


class Gemma(Decoder):
    """What Gemma 2 and 3 share."""

    is_tied = True
    activation_key = "hidden_activation"
    activations = ("gelu_pytorch_tanh",)
    head_dim_default = 256
    pattern: ClassVar[int]
    """llama.cpp takes every layer of this number, counted from 1, for one without a window."""
    n_layer_27b: ClassVar[int]
    """The model whose attention llama.cpp scales by n_embd / n_head."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.n_window = config.count("sliding_window", default=4096)

    def check(self) -> None:
        super().check()
        is_27b = self.n_layer == self.n_layer_27b
        scale = self.n_embd // self.n_head if is_27b else self.head_dim
        found = self.config.number("query_pre_attn_scalar", default=256)
        if found != scale:
            raise UnsupportedModel(
                f"config.json: query_pre_attn_scalar is {found:g}; llama.cpp scales this model's attention by {scale}.",
                hint="This model cannot be converted.",
            )
        self.config.demand("use_bidirectional_attention", False)
        self.config.demand("attention_bias", False)

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        if name.endswith("norm.weight"):
            return changed(name, tensor, lambda weights: weights + 1, tensor.shape)
        return super().output(name, tensor)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        super().add_metadata(writer)
        writer.add_sliding_window(self.n_window)
        slides = self._slides()
        if slides is not None:
            writer.add_sliding_window_pattern(slides)

    def _slides(self) -> list[bool] | None:
        """Return which layers have a window, or None where they are those that llama.cpp takes by itself."""
        kinds = self.config.sequence("layer_types")
        if kinds is None:
            step = self.config.count("sliding_window_pattern", "_sliding_window_pattern", default=self.pattern)
            slides = [(layer + 1) % step != 0 for layer in range(self.n_layer)]
        else:
            slides = [kind == _SLIDING for kind in kinds]
        return None if slides == [(layer + 1) % self.pattern != 0 for layer in range(self.n_layer)] else slides


class Gemma2(Gemma):
    """Gemma 2: soft caps on attention and logits."""

    arch = gguf.MODEL_ARCH.GEMMA2
    rope_kinds = ()
    pattern = 2
    n_layer_27b = 46

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        super().add_metadata(writer)
        # llama.cpp caps where the key is missing too, at 50 and 30.
        writer.add_attn_logit_softcapping(self._cap("attn_logit_softcapping", 50.0))
        writer.add_final_logit_softcapping(self._cap("final_logit_softcapping", 30.0))

    def _cap(self, key: str, default: float) -> float:
        if key in self.config.values and self.config.values[key] is None:
            raise UnsupportedModel(
                f"config.json: {key} is null; llama.cpp computes this architecture only with a cap.",
                hint="This model cannot be converted.",
            )
        return self.config.number(key, default=default)


class Gemma3(Gemma):
    """Gemma 3: norms on Q and K, another theta for layers with a window. Of a model that sees, the language model."""

    arch = gguf.MODEL_ARCH.GEMMA3
    rope_kinds = ("linear",)
    rope_base = 1000000.0
    pattern = 6
    n_layer_27b = 62

    def __init__(self, config: Config) -> None:
        text = config.section("text_config")
        super().__init__(Config(_DEFAULTS_3 | dict(text.values or config.values)))
        if text.values:
            self.notes.append("The model can see; only its language model is converted.")

    def check(self) -> None:
        super().check()
        self.config.demand("attn_logit_softcapping", None)

    def _window_base(self) -> float:
        """Return theta of the layers with a window, whose positions are never scaled."""
        own = self.config.section("rope_parameters").section(_SLIDING)
        own.demand("rope_type", "default")
        return own.number("rope_theta", default=self.config.number("rope_local_base_freq", default=10000.0))

    def source_name(self, name: str) -> str | None:
        if _OTHER_SENSES.match(name):
            return None
        name = _LANGUAGE_MODEL.sub("model.", name)
        return super().source_name("lm_head.weight" if name == "model.lm_head.weight" else name)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        super().add_metadata(writer)
        writer.add_rope_freq_base_swa(self._window_base())
        if (cap := self.config.get("final_logit_softcapping")) is not None:
            writer.add_final_logit_softcapping(cap)


_DEFAULTS_3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "intermediate_size": 9216,
    "hidden_size": 2304,
    "num_hidden_layers": 26,
}
"""What transformers' Gemma3TextConfig has where the file does not say, and published files do not always."""
