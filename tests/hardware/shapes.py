"""Model shapes for the planner's tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from localllm.gguf.weights import Matrix

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Shape:
    """A `ModelShape` with the sizes of an 8-billion-parameter Llama at about 4.5 bits a weight."""

    architecture: str = "llama"
    n_layer: int = 32
    n_embd: int = 4096
    n_head_max: int = 32
    n_head_kv: list[int] = field(default_factory=lambda: [8] * 32)
    head_dim_k: int = 128
    head_dim_v: int = 128
    n_ctx_train: int = 131072
    n_vocab: int = 128256
    n_ff: int = 14336
    layer_bytes: list[int] = field(default_factory=lambda: [130 * MIB] * 32)
    output_bytes: int = 410 * MIB
    token_embd_bytes: int = 282 * MIB
    is_encoder: bool = False
    keeps_kv: bool = True
    n_masks: int = 1
    matrices: list[list[Matrix]] = field(default_factory=list)
    n_expert_used: int = 0

    @property
    def state_bytes(self) -> list[int]:
        return [0] * self.n_layer

    @property
    def n_ff_active(self) -> int:
        return self.n_ff

    @property
    def kv_width_k(self) -> list[int]:
        return [n * self.head_dim_k if self.keeps_kv else 0 for n in self.n_head_kv]

    @property
    def kv_width_v(self) -> list[int]:
        return [n * self.head_dim_v if self.keeps_kv else 0 for n in self.n_head_kv]

    @property
    def weights_bytes(self) -> int:
        return sum(self.layer_bytes) + self.output_bytes + self.token_embd_bytes


LLAMA_8B = Shape()

SMOLLM2 = Shape(
    n_layer=30,
    n_embd=576,
    n_head_max=9,
    n_head_kv=[3] * 30,
    head_dim_k=64,
    head_dim_v=64,
    n_ctx_train=8192,
    n_vocab=49152,
    n_ff=1536,
    layer_bytes=[2 * MIB] * 30,
    output_bytes=0,
    token_embd_bytes=29 * MIB,
)

QWEN25_1_5B = Shape(
    architecture="qwen2",
    n_layer=28,
    n_embd=1536,
    n_head_max=12,
    n_head_kv=[2] * 28,
    n_ctx_train=32768,
    n_vocab=151936,
    n_ff=8960,
    layer_bytes=[28 * MIB] * 28,
    output_bytes=182 * MIB,
    token_embd_bytes=125 * MIB,
)

BGE_M3 = Shape(
    architecture="bert",
    n_layer=24,
    n_embd=1024,
    n_head_max=16,
    n_head_kv=[16] * 24,
    head_dim_k=64,
    head_dim_v=64,
    n_ctx_train=8192,
    n_vocab=250002,
    n_ff=4096,
    layer_bytes=[24 * MIB] * 24,
    output_bytes=0,
    token_embd_bytes=488 * MIB,
    is_encoder=True,
    keeps_kv=False,
)
