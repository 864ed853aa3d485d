"""Phi-3 and Phi-4: Q, K and V in one matrix, gate and up in one, and positions scaled by a list of factors."""

from __future__ import annotations

import gguf

from localllm.convert.config import Config
from localllm.convert.families.decoder import Decoder


class Phi3(Decoder):
    """Phi-3, Phi-3.5 and Phi-4; their matrices stay fused."""

    arch = gguf.MODEL_ARCH.PHI3
    rope_kinds = ("longrope",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.get("sliding_window") is not None:
            self.note_window(config.count("sliding_window"))
