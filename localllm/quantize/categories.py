"""What part of a model a tensor is, by its name, and whether it is quantized at all.

Source: `tensor_get_category` and `tensor_allows_quantization` in llama-quant.cpp, `weight_name_comparer` in
llama-model-loader.h.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from localllm.gguf import TensorInfo


class Category(Enum):
    """The parts of a model that file types treat apart."""

    TOKEN_EMBD = auto()
    OUTPUT = auto()
    ATTN_V = auto()
    """V, and what holds V: fused QKV, MLA's KV."""
    ATTN_K = auto()
    ATTN_Q = auto()
    ATTN_OUTPUT = auto()
    FFN_UP = auto()
    FFN_GATE = auto()
    FFN_DOWN = auto()
    OTHER = auto()


_WHOLE_NAMES = {
    "output.weight": Category.OUTPUT,
    "token_embd.weight": Category.TOKEN_EMBD,
    "per_layer_token_embd.weight": Category.TOKEN_EMBD,
}
_PARTS = (
    ("attn_qkv.weight", Category.ATTN_V),
    ("attn_kv_b.weight", Category.ATTN_V),
    ("attn_v.weight", Category.ATTN_V),
    ("attn_k.weight", Category.ATTN_K),
    ("attn_q.weight", Category.ATTN_Q),
    ("attn_output.weight", Category.ATTN_OUTPUT),
    ("ffn_up", Category.FFN_UP),
    ("ffn_gate", Category.FFN_GATE),
    ("ffn_down", Category.FFN_DOWN),
)
"""Of several, the first counts."""

_NEVER = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight",
    "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
    "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_",
    ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
)  # fmt: skip
"""Parts of names: norms, routers, and what is small or read by row."""
_NEVER_WHOLE = frozenset({"position_embd.weight", "token_types.weight"})
_NEVER_IN = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight",
        "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
    ),
}  # fmt: skip
"""Parts of names, by architecture."""

_LAYER = re.compile(r"blk\.(\d+)")


def category(name: str) -> Category:
    """Return what part of a model the tensor of this name is."""
    found = _WHOLE_NAMES.get(name)
    if found is not None:
        return found
    return next((kind for part, kind in _PARTS if part in name), Category.OTHER)


def may_be_quantized(tensor: TensorInfo, architecture: str) -> bool:
    """Tell whether a tensor is a matrix of weights, and not one that llama.cpp keeps as it is."""
    name = tensor.name
    if len(trimmed_shape(tensor.shape)) < 2 or not name.endswith("weight") or name in _NEVER_WHOLE:
        return False
    return not any(part in name for part in (*_NEVER, *_NEVER_IN.get(architecture, ())))


def layer_of(name: str) -> int:
    """Return the layer of a tensor, from 0; -1 for one outside the layers."""
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def file_order(tensor: TensorInfo) -> tuple[int, str]:
    """Return a key that sorts tensors as llama.cpp's quantizer does: by layer, then by name."""
    return layer_of(tensor.name), tensor.name


def trimmed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its last dimensions of 1, as llama.cpp counts dimensions."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
