"""A tiny random model, built in code, that llama.cpp loads and decodes in milliseconds.

It knows nothing: its text is noise. What it is good for is everything around the text (scheduling, caching,
sampling, streaming, the header), since the same seed gives the same bytes, and so the same tokens. Greedy
text varies with the prompt and does not settle on one token, because every projection keeps the variance of
its input (std 1/√fan_in) and the output layer then spreads the logits (`logit_std`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

MERGES = (
    "Ġ t",
    "h e",
    "Ġt he",
    "i n",
    "Ġ a",
    "e r",
    "o n",
    "l l",
    "o u",
    "Ġ w",
    "Ġw or",
    "o r",
    "l d",
    "e ll",
)
"""Merge rules of the tokenizer, best first: " the", " wor", "ell" and their parts are single tokens."""
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_tokens() -> list[str]:
    """Return the 256 printable stand-ins that GPT-2's tokenizer uses for bytes, in its order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(len(hidden))]


def vocabulary() -> list[str]:
    """Return the tokens by id: 256 bytes, the merged tokens, then `SPECIALS`."""
    return [*byte_tokens(), *(rule.replace(" ", "") for rule in MERGES), *SPECIALS]


def write_tiny_model(
    path: str | Path,
    *,
    seed: int = 0,
    arch: str = "llama",
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 2,
    n_head_kv: int = 1,
    head_dim: int | None = None,
    n_ff: int = 128,
    n_ctx: int = 512,
    logit_std: float = 4.0,
    chat_template: str | None = CHATML,
    name: str = "tiny",
    n_classes: int = 0,
    noise: float = 0.0,
    n_more_tokens: int = 0,
    extra: Mapping[str, bool | int | float | str | list[Any]] | None = None,
) -> Path:
    """Write a seeded random model with F32 weights and a byte-level BPE tokenizer.

    Args:
        path: the file to write; its folder must exist.
        seed: the weights' seed; the same arguments give the same bytes.
        arch: "llama", "qwen2" (which adds biases to Q, K and V), "qwen3" (which norms Q and K) or "gemma3" (which
            also norms what a block adds, and has sliding windows with `extra`'s gemma3.attention.sliding_window).
        n_layer: transformer blocks.
        n_embd: width of the residual stream.
        n_head: query heads.
        n_head_kv: key and value heads; divides `n_head`.
        head_dim: width of one head, `n_embd / n_head` unless given. The default, 32, is one block of a q8_0
            KV cache; llama.cpp shifts quantized keys only where it is a multiple of 64.
        n_ff: width of the feed-forward layer.
        n_ctx: the context length that the header claims the model was trained on.
        logit_std: standard deviation of the logits over the vocabulary.
        chat_template: Jinja source, or None to leave it out.
        name: general.name.
        noise: standard deviation of what is added to the weights, over their own: a model that is like the one without.
        n_more_tokens: at the end of the vocabulary, of no text; the weights of the others are then other ones.
        n_classes: outputs of a layer for ranking, which "qwen3" may have.
        extra: more metadata, by full key; integers are written as uint32.

    Returns:
        The path, as a `Path`.
    """
    head_dim = head_dim or n_embd // n_head
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name)
    writer.add_file_type(0)
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [*vocabulary(), *(f"<|more_{i}|>" for i in range(n_more_tokens))]
    add_tokenizer(writer, chat_template, tokens)
    for key, value in (extra or {}).items():
        add_value(writer, key, value)
    shapes = _shapes(arch, len(tokens), n_layer, n_embd, n_head * head_dim, n_head_kv * head_dim, n_ff)
    if arch in ("qwen3", "gemma3"):
        norms = ("attn_q_norm.weight", "attn_k_norm.weight")
        shapes |= {f"blk.{layer}.{norm}": (head_dim,) for layer in range(n_layer) for norm in norms}
    if arch == "gemma3":
        norms = ("post_attention_norm.weight", "post_ffw_norm.weight")
        shapes |= {f"blk.{layer}.{norm}": (n_embd,) for layer in range(n_layer) for norm in norms}
    if n_classes:
        shapes["cls.output.weight"] = (n_classes, n_embd)
    _add_weights(writer, shapes, np.random.default_rng(seed), logit_std, noise)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def add_tokenizer(writer: gguf.GGUFWriter, chat_template: str | None, tokens: list[str] | None = None) -> None:
    """Add the byte-level BPE tokenizer of `vocabulary`, or of that and more control tokens."""
    tokens = tokens or vocabulary()
    n_normal = len(vocabulary()) - len(SPECIALS)
    n_control = len(tokens) - n_normal
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * n_normal + [gguf.TokenType.CONTROL] * n_control)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(tokens.index("<|im_start|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_eot_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def add_value(writer: gguf.GGUFWriter, key: str, value: bool | int | float | str | list[Any]) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _shapes(
    arch: str, n_vocab: int, n_layer: int, n_embd: int, n_q: int, n_kv: int, n_ff: int
) -> dict[str, tuple[int, ...]]:
    """Return each tensor's NumPy shape: (rows, columns) for a matrix, where the columns are the inputs."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd)}
    for layer in range(n_layer):
        block: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (n_embd,),
            "attn_q.weight": (n_q, n_embd),
            "attn_k.weight": (n_kv, n_embd),
            "attn_v.weight": (n_kv, n_embd),
            "attn_output.weight": (n_embd, n_q),
            "ffn_norm.weight": (n_embd,),
            "ffn_gate.weight": (n_ff, n_embd),
            "ffn_up.weight": (n_ff, n_embd),
            "ffn_down.weight": (n_embd, n_ff),
        }
        if arch == "qwen2":
            block |= {"attn_q.bias": (n_q,), "attn_k.bias": (n_kv,), "attn_v.bias": (n_kv,)}
        shapes |= {f"blk.{layer}.{tensor}": shape for tensor, shape in block.items()}
    return shapes | {"output_norm.weight": (n_embd,), "output.weight": (n_vocab, n_embd)}


def _add_weights(
    writer: gguf.GGUFWriter,
    shapes: dict[str, tuple[int, ...]],
    rng: np.random.Generator,
    logit_std: float,
    noise: float,
) -> None:
    other = np.random.default_rng(rng.bit_generator.seed_seq.spawn(1)[0])  # type: ignore[union-attr]
    for name, shape in shapes.items():
        if name.endswith("norm.weight"):
            weight = np.ones(shape)
        elif name.endswith(".bias"):
            weight = 0.1 * rng.standard_normal(shape)
        elif name == "token_embd.weight":
            weight = rng.standard_normal(shape)
        else:
            gain = logit_std if name == "output.weight" else 1.0
            weight = gain / np.sqrt(shape[-1]) * rng.standard_normal(shape)
        if noise:
            weight = weight + noise * weight.std() * other.standard_normal(shape)
        writer.add_tensor(name, weight.astype(np.float32))
