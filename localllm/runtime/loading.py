"""From a file to a model in memory: what is checked, what is planned, and what cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from localllm.errors import RequestError, UnsupportedModel
from localllm.gguf import AdapterShape, ModelShape, check_adapter, check_loadable, read_header
from localllm.hardware import available_ram_bytes, plan_load
from localllm.hardware.types import AdapterSpec, LoadOptions, LoadPlan
from localllm.paths import cache_dir
from localllm.runtime.accounting import compute_factor
from localllm.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from localllm.engine.kv_store import KVStore
    from localllm.llama import Model


class Planner(Protocol):
    """Plans to load one model, as this machine is now."""

    def __call__(self, wanted: LoadOptions, *, factor: float = 1.0) -> LoadPlan:
        """Return the plan for these options.

        Args:
            wanted: what the plan shall respect.
            factor: of the weights' bytes: for the same model in another quantization.
        """


def plan_model(path: Path, options: LoadOptions) -> tuple[ModelShape, LoadPlan]:
    """Check the headers of a model and its adapters, and decide how to load them.

    Raises:
        ModelError, NotEnoughMemory, RequestError: see `open_backend`.
        ServerError: an RPC server is not there, or has no devices.
    """
    shape, plan = open_planner(path, options)
    return shape, plan(options)


def open_planner(path: Path, options: LoadOptions) -> tuple[ModelShape, Planner]:
    """Check the headers of a model and its adapters, and return what plans to load them in one way or another.

    Args:
        path: of the model.
        options: what adapters and draft model there are, whatever the planner is asked for later.

    Raises:
        ModelError, RequestError: see `open_backend`.
    """
    from localllm.llama import add_rpc_servers, cpu_features, list_devices

    add_rpc_servers(options.rpc)
    header = read_header(path)
    shape = check_loadable(header)
    found = [check_adapter(read_header(spec.path), header, shape.n_layer) for spec in options.adapters]
    whole = shape.with_adapters(adapter.weights for adapter in found)
    draft_shape = None if options.draft_model is None else _draft_shape(options.draft_model)
    devices, features = list_devices(), cpu_features()
    notes = tuple(_adapter_notes(options.adapters, found))
    known_compute = compute_factor(shape.architecture, devices)

    def plan(wanted: LoadOptions, *, factor: float = 1.0) -> LoadPlan:
        made = plan_load(
            whole if factor == 1.0 else replace(whole, weights=whole.weights.scaled(factor)),
            path,
            devices,
            wanted,
            available_ram_bytes(),
            draft_shape=None if wanted.draft_model is None else draft_shape,
            cpu_features=features,
            compute_factor=known_compute,
        )
        return replace(made, notes=(*made.notes, *notes))

    return shape, plan


def plan_reader(
    path: Path, n_ctx: int, *, gpu_layers: int | Literal["auto", "all"], n_threads: int | None
) -> tuple[ModelShape, LoadPlan]:
    """Plan to read texts with a model, a chunk of `n_ctx` tokens at a time: to calibrate, to measure.

    Raises:
        UnsupportedModel: it makes no text.
        ModelError, NotEnoughMemory, RequestError: see `plan_model`.
    """
    options = LoadOptions(n_ctx=n_ctx, gpu_layers=gpu_layers, n_threads=n_threads, n_slots=1, n_batch=512)
    shape, plan = plan_model(path, options)
    if shape.is_encoder:
        raise UnsupportedModel(f"{path.name} makes no text.", hint="Choose a model that continues text.")
    return shape, plan


def _draft_shape(path: Path) -> ModelShape:
    shape = check_loadable(read_header(path))
    if shape.is_encoder:
        raise RequestError(
            f"{path.name} cannot be used as a draft model: it makes no text.", hint="Choose a small chat model."
        )
    return shape


def _adapter_notes(specs: Sequence[AdapterSpec], shapes: Sequence[AdapterShape]) -> Iterator[str]:
    for spec, shape in zip(specs, shapes, strict=True):
        if shape.n_ignored:
            yield f"{spec.path.name} brings {shape.n_ignored} trained norms, which llama.cpp does not apply."


def open_kv_store(path: Path, plan: LoadPlan, max_bytes: int) -> KVStore | None:
    """Return where this model's kept prompts lie on disk; None where none shall be kept.

    Raises:
        ModelNotFound: the file cannot be read.
    """
    from localllm.engine.kv_store import KVStore
    from localllm.llama import build_info

    if not max_bytes:
        return None
    # RoPE settings, layout and flash attention follow from the model, the types and llama.cpp's build.
    parts = (fingerprint(path), plan.kv_type_k, plan.kv_type_v, "unified", f"layers {plan.n_gpu_layers}", build_info())
    return KVStore(cache_dir() / "kv", " | ".join(parts), max_bytes)


def load_model(path: Path, n_gpu_layers: int, on_progress: Callable[[float], None] | None) -> Model:
    """Load the weights, `n_gpu_layers` of them on the GPU.

    Raises:
        ModelLoadFailed: llama.cpp refused the file.
        UnsupportedModel: a model that neither continues texts token by token nor embeds them.
    """
    from localllm.llama import Model, ModelParams

    def report(share: float) -> bool:
        if on_progress is not None:
            on_progress(share)
        return True

    model = Model(path, ModelParams(n_gpu_layers=n_gpu_layers), on_progress=report)
    try:
        _check_usable(model)
    except BaseException:
        model.close()
        raise
    return model


def _check_usable(model: Model) -> None:
    name, vocab = model.path.name, model.vocab
    if model.has_encoder or model.is_diffusion or not vocab.has_tokenizer or vocab.n_tokens == 0:
        raise UnsupportedModel(
            f"{name} has an encoder and a decoder, makes text by diffusion, or has no tokenizer.",
            hint="Choose a chat, completion, embedding or reranking model.",
        )
    if vocab.misses_specials:
        raise UnsupportedModel(
            f"{name} puts special tokens around a text that its vocabulary does not have.",
            hint="Download or convert the model again.",
        )
