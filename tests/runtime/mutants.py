"""Hostile model files: the tiny model with fields and tensors changed by someone who knows what they mean."""

from __future__ import annotations

import copy
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

T = gguf.GGUFValueType
_FORMATS = {
    T.UINT8: "B", T.INT8: "b", T.UINT16: "H", T.INT16: "h", T.UINT32: "I", T.INT32: "i",
    T.UINT64: "Q", T.INT64: "q", T.FLOAT32: "f", T.FLOAT64: "d", T.BOOL: "?",
}  # fmt: skip
NUMBERS = (
    0, 1, 2, 3, 7, 31, 33, 63, 65, 255, 256, 257, 511, 512, 513, 1023, 1025, 65535, 65536,
    (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
)  # fmt: skip
FLOATS = (0.0, -1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan)
ARCHITECTURES = (
    "qwen2", "qwen2moe", "qwen3", "qwen3next",
    "gemma", "gemma2", "gemma3n", "phi3", "mamba", "mamba2", "rwkv6", "jamba",
    "t5", "t5encoder", "bert", "nomic-bert", "gpt2", "gptneox", "falcon", "deepseek2", "gpt-oss", "lfm2", "grok", "mpt",
    "command-r", "clip", "llama4", "minicpm", "starcoder2", "bloom", "olmo2", "plamo2", "dream", "wavtokenizer-dec",
)  # fmt: skip
EXTRA: dict[str, tuple[T, tuple[Any, ...]]] = {
    "llama.rope.scaling.type": (T.STRING, ("none", "linear", "yarn", "longrope", "nonsense", "")),
    "llama.rope.scaling.factor": (T.FLOAT32, FLOATS),
    "llama.rope.scaling.original_context_length": (T.UINT32, NUMBERS),
    "llama.rope.scaling.attn_factor": (T.FLOAT32, FLOATS),
    "llama.expert_count": (T.UINT32, NUMBERS),
    "llama.expert_used_count": (T.UINT32, NUMBERS),
    "llama.expert_group_count": (T.UINT32, NUMBERS),
    "llama.vocab_size": (T.UINT32, NUMBERS),
    "llama.attention.sliding_window": (T.UINT32, NUMBERS),
    "llama.attention.causal": (T.BOOL, (False, True)),
    "llama.attention.layer_norm_epsilon": (T.FLOAT32, FLOATS),
    "llama.attention.clamp_kqv": (T.FLOAT32, FLOATS),
    "llama.pooling_type": (T.UINT32, NUMBERS),
    "llama.logit_scale": (T.FLOAT32, FLOATS),
    "llama.nextn_predict_layers": (T.UINT32, NUMBERS),
    "llama.ssm.state_size": (T.UINT32, NUMBERS),
    "llama.use_parallel_residual": (T.BOOL, (False, True)),
    "tokenizer.ggml.unknown_token_id": (T.UINT32, NUMBERS),
    "tokenizer.ggml.seperator_token_id": (T.UINT32, NUMBERS),
    "tokenizer.ggml.fim_pre_token_id": (T.UINT32, NUMBERS),
    "tokenizer.ggml.add_space_prefix": (T.BOOL, (False, True)),
    "tokenizer.ggml.add_eos_token": (T.BOOL, (False, True)),
    "tokenizer.ggml.remove_extra_whitespaces": (T.BOOL, (False, True)),
    "general.quantization_version": (T.UINT32, NUMBERS),
    "split.count": (T.UINT16, (0, 1, 2, 65535)),
}
TOKENIZERS = ("llama", "bert", "t5", "rwkv", "plamo2", "none", "no_vocab", "", "nonsense")
PRE_TOKENIZERS = (
    "default", "llama-bpe", "qwen2", "deepseek-llm", "gpt-4o", "bloom", "viking", "tekken", "kimi-k2", "hunyuan",
    "smollm", "nonsense", "",
)  # fmt: skip
MERGES: tuple[list[str], ...] = (
    [], [""], [" "], ["a"], ["a b c"], ["a  b"], ["zz qq"] * 3, ["\udcff \udcfe"], ["h e"] * 1000, [" e"], ["h "],
    ["x" * 100_000 + " y"],
)  # fmt: skip


@dataclass
class Tensor:
    name: str
    shape: list[int]
    """In ggml's order."""
    type_id: int
    data: bytes


@dataclass
class Spec:
    """A file as a list of what is in it, which need not make sense."""

    pairs: dict[str, tuple[T, T | None, Any]]
    """Type, type of the elements of an array, value."""
    tensors: list[Tensor]


def read_spec(path: Path) -> Spec:
    reader = gguf.GGUFReader(path)
    pairs = {
        name: (field.types[0], field.types[1] if field.types[0] == T.ARRAY else None, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = [Tensor(t.name, [int(n) for n in t.shape], int(t.tensor_type), t.data.tobytes()) for t in reader.tensors]
    return Spec(pairs, tensors)


def to_bytes(spec: Spec) -> bytes:
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(spec.tensors), len(spec.pairs)))
    for key, (kind, element, value) in spec.pairs.items():
        head += _text(key) + struct.pack("<I", kind)
        if kind == T.ARRAY:
            assert element is not None
            head += struct.pack("<IQ", element, len(value)) + b"".join(_value(element, item) for item in value)
        else:
            head += _value(kind, value)
    data = bytearray()
    for tensor in spec.tensors:
        head += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += b"".join(struct.pack("<Q", n) for n in tensor.shape) + struct.pack("<IQ", tensor.type_id, len(data))
        data += tensor.data + b"\0" * (-len(tensor.data) % 32)
    return bytes(head + b"\0" * (-len(head) % 32) + data)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: T, value: Any) -> bytes:
    return _text(value) if kind == T.STRING else struct.pack("<" + _FORMATS[kind], value)


def mutant(base: Spec, seed: int) -> tuple[Spec, str]:
    """Return the base with one to three changes, and what they were."""
    rng = random.Random(seed)
    spec = copy.deepcopy(base)
    n_changes = rng.choice((1, 1, 1, 2, 3))
    return spec, "; ".join(rng.choice(_CHANGES)(spec, rng) for _ in range(n_changes))


def _hparam(spec: Spec, rng: random.Random) -> str:
    keys = [key for key, (kind, _, _) in spec.pairs.items() if kind == T.UINT32 and "." in key]
    key, value = rng.choice(keys), rng.choice(NUMBERS)
    spec.pairs[key] = (T.UINT32, None, value)
    return f"{key}={value}"


def _float(spec: Spec, rng: random.Random) -> str:
    keys = [key for key, (kind, _, _) in spec.pairs.items() if kind == T.FLOAT32]
    if not keys:
        return "nothing"
    key, value = rng.choice(keys), rng.choice(FLOATS)
    spec.pairs[key] = (T.FLOAT32, None, value)
    return f"{key}={value}"


def _extra(spec: Spec, rng: random.Random) -> str:
    key = rng.choice(list(EXTRA))
    kind, values = EXTRA[key]
    value = rng.choice(values)
    spec.pairs[key] = (kind, None, value)
    return f"+{key}={value!r}"


def _retype(spec: Spec, rng: random.Random) -> str:
    key = rng.choice([key for key in spec.pairs if key != "general.architecture"])
    kind, value = rng.choice(
        ((T.STRING, "x"), (T.INT64, -1), (T.FLOAT64, 2.5), (T.BOOL, True), (T.UINT8, 255), (T.INT32, -1))
    )
    spec.pairs[key] = (kind, None, value)
    return f"{key}:{kind.name}={value!r}"


def _per_layer(spec: Spec, rng: random.Random) -> str:
    key = rng.choice(("llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"))
    value = [rng.choice(NUMBERS[:12]) for _ in range(rng.choice((0, 1, 2, 3, 512)))]
    spec.pairs[key] = (T.ARRAY, rng.choice((T.UINT32, T.INT32)), value)
    return f"{key}={value[:4]}×{len(value)}"


def _architecture(spec: Spec, rng: random.Random) -> str:
    name = rng.choice(ARCHITECTURES)
    spec.pairs = {key.replace("llama.", f"{name}.", 1): value for key, value in spec.pairs.items()}
    spec.pairs["general.architecture"] = (T.STRING, None, name)
    return f"architecture={name}"


def _tokenizer(spec: Spec, rng: random.Random) -> str:
    if rng.random() < 0.5:
        key, value = "tokenizer.ggml.model", rng.choice(TOKENIZERS)
    else:
        key, value = "tokenizer.ggml.pre", rng.choice(PRE_TOKENIZERS)
    spec.pairs[key] = (T.STRING, None, value)
    return f"{key}={value!r}"


def _token_types(spec: Spec, rng: random.Random) -> str:
    n = rng.choice((0, 1, 100, 272, 274, 1000))
    value = [rng.choice((-1, 0, 1, 2, 3, 4, 5, 6, 7, 99)) for _ in range(n)]
    spec.pairs["tokenizer.ggml.token_type"] = (T.ARRAY, T.INT32, value)
    return f"{n} token types"


def _merges(spec: Spec, rng: random.Random) -> str:
    value = rng.choice(MERGES)
    spec.pairs["tokenizer.ggml.merges"] = (T.ARRAY, T.STRING, value)
    return f"merges={str(value)[:30]}×{len(value)}"


def _tokens(spec: Spec, rng: random.Random) -> str:
    _, _, tokens = spec.pairs["tokenizer.ggml.tokens"]
    change = rng.choice(("short", "long", "none", "duplicate", "empty", "bytes", "huge", "zero"))
    tokens = {
        "short": tokens[:50],
        "long": [*tokens, *(f"extra{i}" for i in range(100))],
        "none": [],
        "duplicate": [tokens[0], *tokens[:-1]],
        "empty": ["", *tokens[1:]],
        "bytes": ["\udcff\udc80", *tokens[1:]],
        "huge": ["q" * 500_000, *tokens[1:]],
        "zero": ["a\0b", *tokens[1:]],
    }[change]
    spec.pairs["tokenizer.ggml.tokens"] = (T.ARRAY, T.STRING, tokens)
    return f"tokens {change}"


def _scores(spec: Spec, rng: random.Random) -> str:
    n = rng.choice((0, 10, 273, 1000))
    value = [rng.choice(FLOATS) for _ in range(n)]
    spec.pairs["tokenizer.ggml.scores"] = (T.ARRAY, T.FLOAT32, value)
    spec.pairs["tokenizer.ggml.model"] = (T.STRING, None, rng.choice(TOKENIZERS))
    return f"{n} scores, tokenizer {spec.pairs['tokenizer.ggml.model'][2]!r}"


def _charsmap(spec: Spec, rng: random.Random) -> str:
    value = [rng.randrange(256) for _ in range(rng.choice((0, 1, 4, 64)))]
    spec.pairs["tokenizer.ggml.precompiled_charsmap"] = (T.ARRAY, T.UINT8, value)
    spec.pairs["tokenizer.ggml.model"] = (T.STRING, None, "t5")
    return f"charsmap of {len(value)}"


def _drop_pair(spec: Spec, rng: random.Random) -> str:
    key = rng.choice(list(spec.pairs))
    del spec.pairs[key]
    return f"-{key}"


def _drop_tensor(spec: Spec, rng: random.Random) -> str:
    return f"-{spec.tensors.pop(rng.randrange(len(spec.tensors))).name}"


def _rename_tensor(spec: Spec, rng: random.Random) -> str:
    tensor = rng.choice(spec.tensors)
    old = tensor.name
    tensor.name = rng.choice(("blk.99.attn_q.weight", "rope_freqs.weight", "output.bias", "x", "blk.0.attn_q.bias"))
    return f"{old}→{tensor.name}"


def _reshape(spec: Spec, rng: random.Random) -> str:
    tensor = rng.choice(spec.tensors)
    change = rng.choice(("swap", "double", "half", "one", "extra", "flat", "odd"))
    shape = list(tensor.shape)
    if change == "swap":
        shape.reverse()
    elif change == "double":
        shape[-1] *= 2
    elif change == "half":
        shape[0] = max(1, shape[0] // 2)
    elif change == "one":
        shape = [1]
    elif change == "extra":
        shape = [*shape, 2]
    elif change == "flat":
        shape = [math.prod(shape)]
    else:
        shape[0] += 1
    tensor.shape = shape
    _fit(tensor)
    return f"{tensor.name} {change}"


def _tensor_type(spec: Spec, rng: random.Random) -> str:
    tensor = rng.choice(spec.tensors)
    tensor.type_id = rng.choice((1, 2, 8, 10, 12, 16, 20, 24, 25, 26, 27, 28, 30, 34, 35, 39))
    _fit(tensor)
    return f"{tensor.name}:{tensor.type_id}"


def _fit(tensor: Tensor) -> None:
    """Give the tensor as much data as its shape and type take, so that the file stays whole."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.type_id)]
    n_bytes = math.prod(tensor.shape) // block * size
    tensor.data = (tensor.data * (n_bytes // len(tensor.data) + 1))[:n_bytes]


def _garbage_weights(spec: Spec, rng: random.Random) -> str:
    tensor = rng.choice(spec.tensors)
    pattern = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\0", b"\xff\xff\x7f\x7f"))
    tensor.data = pattern * (len(tensor.data) // 4)
    return f"{tensor.name}={pattern.hex()}"


Change = Callable[[Spec, random.Random], str]
_CHANGES: tuple[Change, ...] = (
    _hparam, _hparam, _hparam, _hparam, _float, _extra, _extra, _extra, _retype, _per_layer, _architecture, _tokenizer,
    _token_types, _merges, _tokens, _scores, _charsmap, _drop_pair, _drop_tensor, _rename_tensor, _reshape, _reshape,
    _tensor_type, _garbage_weights,
)  # fmt: skip
