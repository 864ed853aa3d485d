"""LoRA adapters from PEFT's form to GGUF: the same halves under llama.cpp's names, B's rows in llama.cpp's order.

llama.cpp multiplies B A by one alpha for the whole file over each matrix's own rank; where a matrix has another alpha,
its B takes the difference.

Source: llama.cpp, convert_lora_to_gguf.py (names); `llama_adapter_lora_init_impl`, `build_lora_mm` (what is computed).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import gguf
import numpy as np

from localllm.convert.base_model import BaseModel, Shape, read_base
from localllm.convert.card import read_card
from localllm.convert.conversion import Conversion
from localllm.convert.families import Family
from localllm.convert.peft import MERGE, LoraPair, PeftAdapter, read_adapter
from localllm.convert.tensors import Array, OutputTensor, changed, copied, stacked, transposed
from localllm.convert.types import FILE_TYPES, OutputType
from localllm.convert.writer import OnProgress, write_gguf
from localllm.errors import InvalidCheckpoint, RequestError, UnsupportedModel
from localllm.gguf import read_header

A, B = ".lora_a", ".lora_b"
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"
_NOT_ADAPTED = ("cls.", "position_embd.", "token_types.")
"""Weights that llama.cpp reads without looking for adapters."""
_WRONG_BASE = "Give the model that the adapter was trained for with --base."


def convert_adapter(
    source: Path,
    target: Path,
    base: Path | None = None,
    output_type: OutputType = "f32",
    on_progress: OnProgress = lambda _done, _total: None,
) -> Conversion:
    """Convert a LoRA adapter that PEFT has saved to a GGUF file.

    Args:
        source: the folder: adapter_config.json and adapter_model.safetensors.
        target: the file; an existing one is replaced.
        base: the model that it was trained for, a GGUF file or a folder with config.json; None: the folder that
            adapter_config.json names.
        output_type: how the halves are stored.
        on_progress: called with the bytes of weights written so far, and of all.

    Raises:
        ModelNotFound, RequestError: there is no such model, none is named, or the target cannot be written.
        InvalidCheckpoint, InvalidModelFile: something is missing or damaged, or the model is another one.
        UnsupportedModel: the adapter does what llama.cpp does not compute.
        NotEnoughDisk: the file does not fit on its disk.
    """
    adapter = read_adapter(source)
    model = read_base(base or _named_base(adapter))
    tensors = adapter_tensors(adapter, model)

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.alpha)
        read_card(source, tensors).set_gguf_meta_model(writer)
        writer.add_file_type(FILE_TYPES[output_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    architecture: str = gguf.MODEL_ARCH_NAMES[model.family.arch]
    n_bytes = write_gguf(target, architecture, tensors, output_type, add_metadata, read_header, on_progress)
    notes = (
        () if model.shapes is not None else ("The base model's weights are not there, so shapes were not compared.",)
    )
    return Conversion(target, architecture, len(tensors), sum(tensor.n_items for tensor in tensors), n_bytes, notes)


def _named_base(adapter: PeftAdapter) -> Path:
    """Return the folder that the adapter names."""
    named = None if adapter.base_name is None else Path(adapter.base_name)
    if named is None or not named.is_dir():
        trained = f"was trained for {adapter.base_name!r}, which is no folder here" if named else "names no model"
        raise RequestError(
            f"The adapter {trained}.",
            hint="Give that model with --base: its GGUF file, or its folder with config.json.",
        )
    return named


def adapter_tensors(adapter: PeftAdapter, base: BaseModel) -> list[OutputTensor]:
    """Return the tensors of the GGUF adapter.

    Raises:
        InvalidCheckpoint: it does not fit the model.
        UnsupportedModel: llama.cpp would leave out a part of it.
    """
    alone: dict[str, LoraPair] = {}
    experts: dict[str, dict[int, LoraPair]] = defaultdict(dict)
    for pair in adapter.pairs:
        name, expert = _place(pair, base)
        if expert is None:
            alone[name] = pair
        else:
            experts[name][expert] = pair
    halves = {name: _halves(name, pair, adapter.alpha, base.family) for name, pair in alone.items()}
    halves |= {name: _stacked_halves(name, pairs, adapter.alpha, base.family) for name, pairs in experts.items()}
    for name, (a, b) in halves.items():
        _check_fit(name, a.shape, b.shape, base)
    return [half for both in halves.values() for half in both]


def _place(pair: LoraPair, base: BaseModel) -> tuple[str, int | None]:
    """Return the GGUF name of the matrix, and which expert's it is, if one's."""
    try:
        place = base.family.place(f"{pair.module}.weight")
    except UnsupportedModel as error:
        architecture = gguf.MODEL_ARCH_NAMES[base.family.arch]
        raise InvalidCheckpoint(
            f"The adapter changes {pair.module!r}, which a model of architecture {architecture} does not have.",
            hint=_WRONG_BASE,
        ) from error
    if place is None or place[0].startswith(_NOT_ADAPTED) or pair.is_embedding != (place[0] == _EMBEDDING):
        raise UnsupportedModel(f"The adapter changes {pair.module!r}; llama.cpp does not adapt that.", hint=MERGE)
    if pair.is_embedding and _is_tied(base):
        raise UnsupportedModel(
            f"The adapter changes {pair.module!r}, which in this model is the output layer, too; llama.cpp cannot "
            "adapt one of them.",
            hint=MERGE,
        )
    return place


def _is_tied(base: BaseModel) -> bool:
    return base.family.ties_output if base.shapes is None else _OUTPUT not in base.shapes


def _halves(name: str, pair: LoraPair, alpha: float, family: Family) -> tuple[OutputTensor, OutputTensor]:
    half_a = transposed(name + A, pair.a) if pair.is_embedding else copied(name + A, pair.a)
    return half_a, changed(name + B, pair.b, lambda rows: _scaled(family.rows(name, rows), pair, alpha), pair.b.shape)


def _stacked_halves(
    name: str, pairs: dict[int, LoraPair], alpha: float, family: Family
) -> tuple[OutputTensor, OutputTensor]:
    """Return the halves of all experts, along a new first axis."""
    n_expert = family.config.count("num_local_experts", "num_experts")
    if sorted(pairs) != list(range(n_expert)) or len({(pair.a.shape, pair.b.shape) for pair in pairs.values()}) > 1:
        raise UnsupportedModel(
            f"The adapter changes {len(pairs)} of {n_expert} experts in {name}, or with several ranks; llama.cpp "
            "adapts all with one.",
            hint=MERGE,
        )
    ordered = [pairs[index] for index in range(n_expert)]
    shape = (n_expert, *ordered[0].b.shape)
    half_b = OutputTensor(name + B, shape, lambda: (_scaled(pair.b.read(), pair, alpha) for pair in ordered))
    return stacked(name + A, [pair.a for pair in ordered]), half_b


def _scaled(b: Array, pair: LoraPair, alpha: float) -> Array:
    """Return B times what this pair's alpha is of the file's."""
    return b if pair.alpha == alpha else b * np.float32(pair.alpha / alpha)


def _check_fit(name: str, a: Shape, b: Shape, base: BaseModel) -> None:
    """Compare the halves with the matrix they are for, where that is known."""
    if base.shapes is None:
        return
    matrix = base.shapes.get(name)
    rank = b[-1]
    if matrix is None:
        raise InvalidCheckpoint(f"The adapter changes {name}, which the model does not have.", hint=_WRONG_BASE)
    *experts, n_out, n_in = matrix
    wanted: tuple[Shape, Shape] = (n_out, rank), (n_in, rank)
    if name != _EMBEDDING:
        wanted = (*experts, rank, n_in), (*experts, n_out, rank)
    if (a, b) != wanted:
        raise InvalidCheckpoint(
            f"The adapter's halves for {name} are {list(a)} and {list(b)}; the model's {list(matrix)} needs "
            f"{list(wanted[0])} and {list(wanted[1])}.",
            hint=_WRONG_BASE,
        )
