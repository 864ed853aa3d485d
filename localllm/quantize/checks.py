"""What is wrong with a request to quantize, found before any work is done."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import ModelError, RequestError
from localllm.gguf import GGUFHeader, printable
from localllm.quantize.categories import Category, category
from localllm.quantize.file_types import is_quantized
from localllm.quantize.imatrix import ANOTHER_MODELS, Imatrix
from localllm.quantize.mix import Mix, needs_importance

_NOT_FLOATS = frozenset({"i8", "i16", "i32", "i64", "f64"})


def check_source(header: GGUFHeader, mix: Mix, *, allow_requantize: bool = False) -> None:
    """Refuse a source whose tensors cannot, or should not, become the mix's types.

    Raises:
        ModelError: a tensor is quantized already, or does not hold weights.
    """
    changed = [tensor for tensor in header.tensors if tensor.type is not mix.types[tensor.name]]
    odd = next((tensor for tensor in changed if tensor.type.name in _NOT_FLOATS), None)
    if odd is not None:
        raise ModelError(
            f"{printable(odd.name)} is of type {odd.type.name.upper()}, which holds no weights to quantize.",
            hint="Convert the model again.",
        )
    quantized = [tensor for tensor in changed if is_quantized(tensor.type)]
    if quantized and not allow_requantize:
        first = quantized[0]
        problem = (
            f"is quantized already: {len(quantized)} tensors, {printable(first.name)} to {first.type.name.upper()}"
        )
        raise ModelError(
            f"{printable(header.path.name, 200)} {problem}.",
            hint="Quantize from a 16-bit file. If there is none, --allow-requantize does it at a loss.",
        )


def check_target(header: GGUFHeader, target: Path, *, may_replace: bool) -> None:
    """Refuse to write over the source, or over what is there without leave.

    Raises:
        RequestError: the target is one of the source's files, or there already.
    """
    if target.exists() and any(part.samefile(target) for part in header.parts):
        raise RequestError(f"{printable(str(target), 200)} is the source itself.", hint="Write to another file.")
    check_replaceable(target, may_replace=may_replace)


def check_replaceable(target: Path, *, may_replace: bool) -> None:
    """Refuse to write over what is there without leave.

    Raises:
        RequestError: the target is there already.
    """
    if target.exists() and not may_replace:
        shown = printable(str(target), 200)
        raise RequestError(f"{shown} is there already.", hint="Write to another file, or replace it with --force.")


def check_imatrix(header: GGUFHeader, mix: Mix, imatrix: Imatrix | None) -> tuple[str, ...]:
    """Refuse an importance matrix of another model, and a type that needs one where there is none.

    Returns:
        The tensors that are quantized without importance, although there is an importance matrix; the token embedding
        is not among them, since no matrix product has it as weights.

    Raises:
        RequestError: an entry is of another shape, or of a tensor that the model does not have; or a tensor would be
            garbage without importance.
    """
    entries = imatrix.entries if imatrix else {}
    tensors = {tensor.name: tensor for tensor in header.tensors}
    strange = next((name for name in entries if name not in tensors), None)
    if strange is not None:
        problem = f"has an entry for {printable(strange)}, which the model does not have"
        raise RequestError(f"The importance matrix {problem}.", hint=ANOTHER_MODELS)
    for name in entries:
        if imatrix is not None:
            imatrix.importance(tensors[name])
    without = [name for name, kind in mix.types.items() if is_quantized(kind) and name not in entries]
    garbage = next((name for name in without if needs_importance(name, mix.types[name], mix.file_type)), None)
    if garbage is not None:
        missing = f"an importance matrix, and there is none for {printable(garbage)}"
        raise RequestError(
            f"{mix.file_type.name} is garbage without {missing}.",
            hint="Make one with `localllm imatrix` and give it with --imatrix, or choose Q2_K.",
        )
    return tuple(name for name in without if category(name) is not Category.TOKEN_EMBD) if imatrix else ()
