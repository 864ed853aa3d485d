"""LoRA adapters in GGUF form: is this one, and does it fit that model?

llama.cpp checks most of this when it loads the file; what it does not check ends the process in the first decode.

Source: `llama_adapter_lora_init_impl` and `llm_graph_context::build_lora_mm` of the pinned version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from localllm.errors import UnsupportedModel
from localllm.gguf.header import GGUFHeader
from localllm.gguf.loadable import NOT_WEIGHTS
from localllm.gguf.problems import invalid, printable, quoted
from localllm.gguf.tensors import TensorInfo
from localllm.gguf.weights import Weights

_TYPES = {"general.type": "str", "adapter.type": "str", "adapter.lora.alpha": "f32"}
"""llama.cpp ends the process where one of these has another type."""
_A, _B, _NORM = ".lora_a", ".lora_b", "_norm.weight"
_EMBEDDING = "token_embd.weight"
FOLDED_KEY = "quantize.awq"
"""True in a model whose channels were scaled (`localllm.quantize.awq`)."""
_WRONG_BASE = "Use the adapter with the model that it was trained for."
_NOT_FOLDED = "Use a file that `localllm quantize` made with another --method."
_NOT_APPLIED = "llama.cpp cannot apply it; use another adapter."
_CONVERT = "Convert it with a current llama.cpp (convert_lora_to_gguf.py)."


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter adds to its model."""

    weights: Weights
    """Its bytes, by place: each lies where the matrix lies that it adapts."""
    n_ignored: int
    """Trained norms, which llama.cpp leaves out."""


def check_adapter(adapter: GGUFHeader, model: GGUFHeader, n_layer: int) -> AdapterShape:
    """Check that a file is a LoRA adapter, and that it fits a model.

    Args:
        adapter: the header of the file.
        model: the header of the model's.
        n_layer: the model's layers.

    Raises:
        InvalidModelFile: it is no adapter, or a damaged one, or one of another model.
        UnsupportedModel: it is sound, but llama.cpp cannot apply it.
    """
    _check_kind(adapter)
    if adapter.architecture != model.architecture:
        problem = f"is for {printable(adapter.architecture)} models, and this one is {printable(model.architecture)}"
        raise invalid(adapter.path, problem, _WRONG_BASE)
    if model.metadata.get(FOLDED_KEY):
        raise _unsupported(adapter, "does not fit a file whose channels AWQ has scaled", _NOT_FOLDED)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    pairs = _pairs(adapter)
    for name, (a, b) in pairs.items():
        base = tensors.get(name)
        if base is None:
            raise invalid(adapter.path, f"adapts {quoted(name)}, which the model does not have", _WRONG_BASE)
        _check_pair(adapter, base, a, b)
    if _EMBEDDING in pairs and "output.weight" not in tensors:
        raise _unsupported(adapter, "adapts the token embedding, which in this model is the output layer too")
    n_ignored = len(adapter.tensors) - 2 * len(pairs)
    return AdapterShape(Weights.from_header(adapter, n_layer), n_ignored)


def _check_kind(header: GGUFHeader) -> None:
    values = header.metadata
    for key, kind in _TYPES.items():
        found = header.metadata_types.get(key, kind)
        if found != kind:
            raise invalid(header.path, f"{key} is of type {found} where {kind} is demanded", _CONVERT)
    kind = str(values.get("general.type", "model"))
    if kind != "adapter":
        raise invalid(header.path, f"is not a LoRA adapter but a {printable(kind)}", "Open it as a model instead.")
    if values.get("adapter.type") != "lora":
        problem = f"is an adapter of type {quoted(str(values.get('adapter.type', '')))}; lora is known"
        raise invalid(header.path, problem, _CONVERT)
    alpha = values.get("adapter.lora.alpha", 0.0)
    if not (isinstance(alpha, float) and math.isfinite(alpha)):
        raise invalid(header.path, f"adapter.lora.alpha is {alpha}; it must be finite", _CONVERT)
    if "adapter.alora.invocation_tokens" in values:
        raise _unsupported(header, "is an activated LoRA, which applies only after a certain text")
    if len(header.parts) > 1:
        raise _unsupported(header, f"is split into {len(header.parts)} files")


def _pairs(header: GGUFHeader) -> Mapping[str, tuple[TensorInfo, TensorInfo]]:
    """Return the two halves of each adapted matrix, by the matrix's name."""
    halves: dict[str, dict[str, TensorInfo]] = {_A: {}, _B: {}}
    for tensor in header.tensors:
        suffix = tensor.name[-len(_A) :]
        if suffix in halves:
            halves[suffix][tensor.name.removesuffix(suffix)] = tensor
        elif not tensor.name.endswith(_NORM):
            raise invalid(header.path, f"tensor {quoted(tensor.name)} is no part of a LoRA adapter", _CONVERT)
    alone = halves[_A].keys() ^ halves[_B].keys()
    if alone:
        raise invalid(header.path, f"only one half of the adapter of {quoted(min(alone))} is there", _CONVERT)
    if not halves[_A]:
        raise invalid(header.path, "adapts nothing", _CONVERT)
    return {name: (a, halves[_B][name]) for name, a in halves[_A].items()}


def _check_pair(header: GGUFHeader, base: TensorInfo, a: TensorInfo, b: TensorInfo) -> None:
    for half in (a, b):
        if half.type.name in NOT_WEIGHTS:
            problem = f"tensor {quoted(half.name)} is of type {half.type.name}, which is no type for weights"
            raise invalid(header.path, problem, _CONVERT)
    shape = _trimmed(base.shape)
    if len(shape) < 2:
        raise invalid(header.path, f"adapts {quoted(base.name)}, which is no matrix", _CONVERT)
    if base.type.name == "nvfp4":
        raise _unsupported(header, f"adapts {quoted(base.name)}, which is kept as nvfp4")
    rank = b.shape[0]
    n_in, n_out, *experts = shape
    wanted_a, wanted_b = (n_in, rank, *experts), (rank, n_out, *experts)
    if base.name == _EMBEDDING:
        # A row of A for each token, so both halves lie the other way round.
        wanted_a, wanted_b = (rank, n_out), (rank, n_in)
    if _trimmed(a.shape) != _trimmed(wanted_a) or _trimmed(b.shape) != _trimmed(wanted_b):
        problem = (
            f"its halves for {quoted(base.name)} are {_shown(a.shape)} and {_shown(b.shape)}, "
            f"where the model's {_shown(shape)} needs {_shown(wanted_a)} and {_shown(wanted_b)}"
        )
        raise invalid(header.path, problem, _WRONG_BASE)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _shown(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _unsupported(header: GGUFHeader, problem: str, hint: str = _NOT_APPLIED) -> UnsupportedModel:
    return UnsupportedModel(f"{printable(header.path.name, 200)}: {problem}", hint=hint)
