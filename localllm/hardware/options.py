"""Refuses load options that no machine could honour, before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence

from localllm.errors import RequestError
from localllm.hardware.estimate import N_CTX_STEP, ModelShape, uses_flash_attention
from localllm.hardware.kv_types import check_kv_type, kv_type
from localllm.hardware.types import MAX_ADAPTER_SCALE, N_SEQ_LIMIT, LoadOptions

N_CTX_LIMIT = 2**31 - N_CTX_STEP
"""llama.cpp's positions are 32-bit signed."""

N_THREADS_LIMIT = 512
"""ggml's GGML_MAX_N_THREADS."""


def check_options(options: LoadOptions, shape: ModelShape) -> None:
    """Check every value by itself, and the KV types against the model.

    Raises:
        RequestError: a value is out of range, or a KV type is unknown or cannot hold this model's heads.
    """
    _check_range("n_ctx", options.n_ctx, N_CTX_LIMIT)
    _check_range("threads", options.n_threads, N_THREADS_LIMIT)
    _check_range("n_slots", options.n_slots, N_SEQ_LIMIT)
    _check_range("n_batch", options.n_batch, N_CTX_LIMIT)
    _check_range("n_ubatch", options.n_ubatch, N_CTX_LIMIT)
    if options.n_batch < options.n_slots:
        raise RequestError(
            f"n_batch is {options.n_batch}, and each of {options.n_slots} slots needs a token of it.",
            hint=f"Use an n_batch of at least {options.n_slots}.",
        )
    _check_gpu_layers(options.gpu_layers)
    check_spec(options, shape)
    for adapter in options.adapters:
        if not abs(adapter.scale) <= MAX_ADAPTER_SCALE:
            allowed = f"it must be from -{MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}"
            raise RequestError(
                f"The scale of {adapter.path.name} is {adapter.scale}; {allowed}.", hint="1 is as trained."
            )
    check_kv_types(options.kv_type_k, options.kv_type_v, shape)


def check_spec(options: LoadOptions, shape: ModelShape) -> None:
    """Check what is said of a draft model.

    Raises:
        RequestError: drafts are to come from a draft model, and none is named; or the model makes no text.
    """
    if options.spec == "draft" and options.draft_model is None:
        raise RequestError(
            "spec is draft, and no draft model is named.", hint="Name one with --draft-model, or use auto or ngram."
        )
    if options.draft_model is not None and shape.is_encoder:
        raise RequestError(
            "A draft model proposes tokens, and this model makes no text.", hint="Leave --draft-model out."
        )


def check_kv_types(name_k: str, name_v: str, shape: ModelShape) -> None:
    """Check that a model's keys and values can be kept in these types.

    Raises:
        RequestError: there is no such type, or llama.cpp cannot keep this model's heads in it.
    """
    kind_k, kind_v = kv_type(name_k), kv_type(name_v)
    flash_attention = uses_flash_attention(shape)
    for head_dim in _head_dims(shape, shape.kv_width_k):
        check_kv_type(kind_k, "K", head_dim, flash_attention=flash_attention)
    for head_dim in _head_dims(shape, shape.kv_width_v):
        check_kv_type(kind_v, "V", head_dim, flash_attention=flash_attention)
    is_latent = any(shape.kv_width_k) and not any(shape.kv_width_v)
    if kind_k != kind_v and (is_latent or shape.architecture == "deepseek4"):
        raise RequestError(
            f"K cannot be kept as {kind_k.name} and V as {kind_v.name}: this model computes both from one vector.",
            hint="Use one --kv-type for both.",
        )


def _head_dims(shape: ModelShape, widths: Sequence[int]) -> list[int]:
    """Return the widths of a head that occur, ascending; sliding-window layers may have their own."""
    pairs = zip(widths, shape.n_head_kv, strict=True)
    return sorted({width // n_head for width, n_head in pairs if width and n_head})


def _check_range(name: str, value: int | None, high: int) -> None:
    if value is not None and not 1 <= value <= high:
        raise RequestError(
            f"{name} is {value}; it must be from 1 to {high}.", hint=f"Leave {name} out to let it be chosen."
        )


def _check_gpu_layers(value: int | str) -> None:
    allowed = value in ("auto", "all") if isinstance(value, str) else value >= 0
    if not allowed:
        raise RequestError(f"gpu_layers is {value!r}; it must be auto, all, or 0 or more.", hint="Use auto.")
