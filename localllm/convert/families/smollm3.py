"""SmolLM3: Llama, with every fourth layer without positions."""

from __future__ import annotations

import gguf

from localllm.convert.families.llama import Llama
from localllm.errors import UnsupportedModel

_STEP = 4
"""llama.cpp leaves out the rotation in layers 3, 7, 11 …"""


class SmolLM3(Llama):
    """SmolLM3."""

    arch = gguf.MODEL_ARCH.SMOLLM3
    rope_kinds = ("linear", "yarn")
    rope_base = 2000000.0
    is_tied = True

    def check(self) -> None:
        super().check()
        expected = [int((layer + 1) % _STEP != 0) for layer in range(self.n_layer)]
        rotated = self.config.sequence("no_rope_layers")
        step = self.config.count("no_rope_layer_interval", default=_STEP)
        if (rotated is not None and list(rotated) != expected) or (rotated is None and step != _STEP):
            raise UnsupportedModel(
                "config.json: no_rope_layers names other layers than every fourth, which llama.cpp computes.",
                hint="This model cannot be converted.",
            )
        self.config.demand("use_sliding_window", False)
        self.config.demand("mlp_bias", False)
