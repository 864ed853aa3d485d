"""The last look before llama.cpp gets a file: what would end the process instead of raising an error.

llama.cpp asserts these while it loads or first decodes, and an assertion ends the process. Found by loading
thousands of mutated headers that `read_header` accepts.

Source: `llama_vocab::impl::load` and `llama_model_base::load_hparams` of the pinned version.
"""

from __future__ import annotations

import re

from localllm.gguf.header import GGUFHeader
from localllm.gguf.problems import CONVERT, invalid, printable, quoted
from localllm.gguf.shape import ModelShape
from localllm.gguf.values import ArrayRef

_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_EPSILONS = ("layer_norm_rms_epsilon", "layer_norm_epsilon", "group_norm_epsilon")
_TOKENS = "tokenizer.ggml.tokens"
_WEIGHT = re.compile(
    r"(^token_embd|^token_types|^position_embd|^cls|^output|_norm|\.attn_\w+|\.ffn_(gate|up|down)(_exps|_shexp)?)\.(weight|bias)$"
)
NOT_WEIGHTS = frozenset({"i8", "i16", "i32", "i64", "f64"})
"""Types that no kernel of llama.cpp takes for a weight; it finds out in the first decode, and ends the process."""


def check_loadable(header: GGUFHeader) -> ModelShape:
    """Check what llama.cpp asserts about a model's numbers and vocabulary.

    Apart from `read_header`, since it reads every token: some 80 ms for 150,000.

    Returns:
        The shape, since it had to be derived.

    Raises:
        InvalidModelFile: running this file would end the process.
    """
    shape = ModelShape.from_header(header)
    _check_rope_scaling(header)
    _check_epsilons(header)
    _check_expert_groups(header, shape.n_expert)
    _check_tokens(header)
    _check_weights(header)
    return shape


def _check_rope_scaling(header: GGUFHeader) -> None:
    key = f"{header.architecture}.rope.scaling.type"
    value = header.metadata.get(key, "none")
    if isinstance(value, str) and value not in _ROPE_SCALINGS:
        problem = f"{printable(key)} is {quoted(value)}; {', '.join(_ROPE_SCALINGS)} are known"
        raise invalid(header.path, problem, CONVERT)


def _check_epsilons(header: GGUFHeader) -> None:
    for name in _EPSILONS:
        key = f"{header.architecture}.attention.{name}"
        value = header.metadata.get(key, 0.0)
        # Not `value < 0`: NaN fails the assertion too.
        if isinstance(value, float) and not value >= 0:
            raise invalid(header.path, f"{printable(key)} is {value:g}; 0 is the least", CONVERT)


def _check_expert_groups(header: GGUFHeader, n_expert: int) -> None:
    prefix = header.architecture
    n_groups = header.metadata.get(f"{prefix}.expert_group_count", 0)
    n_used = header.metadata.get(f"{prefix}.expert_group_used_count", 0)
    if not isinstance(n_groups, int) or not isinstance(n_used, int) or n_groups == 0:
        return
    if n_groups >= n_expert or (n_groups > 1 and (n_expert % n_groups or not 0 < n_used < n_groups)):
        raise invalid(header.path, f"uses {n_used} of {n_groups} groups of its {n_expert} experts", CONVERT)


def _check_tokens(header: GGUFHeader) -> None:
    tokens = header.metadata.get(_TOKENS)
    if tokens is None:
        return
    if not isinstance(tokens, ArrayRef) or tokens.element_type != "str":
        kind = header.metadata_types[_TOKENS]
        raise invalid(header.path, f"{_TOKENS} is of type {kind} where arr[str] is demanded", CONVERT)
    seen: set[bytes] = set()
    for index, text in enumerate(tokens.read_texts()):
        # llama.cpp reads a token up to its first zero byte, and gives empty ones this name.
        token = text.partition(b"\0")[0] or b"[EMPTY_%d]" % index
        if token in seen:
            shown = quoted(token.decode("utf-8", "replace"))
            raise invalid(header.path, f"token {index} repeats an earlier one, {shown}", CONVERT)
        seen.add(token)
    if header.metadata.get("tokenizer.ggml.model") == "llama":
        _check_bytes(header, seen)


def _check_bytes(header: GGUFHeader, tokens: set[bytes]) -> None:
    """A SentencePiece vocabulary without bytes ends the process at the first character that it does not know."""
    missing = [byte for byte in range(256) if b"<0x%02X>" % byte not in tokens and bytes([byte]) not in tokens]
    if missing:
        problem = f"its vocabulary has no token for {len(missing)} of the 256 bytes, 0x{missing[0]:02X} the first"
        raise invalid(header.path, problem, CONVERT)


def _check_weights(header: GGUFHeader) -> None:
    for tensor in header.tensors:
        if tensor.type.name in NOT_WEIGHTS and _WEIGHT.search(tensor.name):
            problem = f"tensor {quoted(tensor.name)} is of type {tensor.type.name}, which is no type for weights"
            raise invalid(header.path, problem, CONVERT)
