"""The file types that can be made: names for mixes of tensor types.

Source: `llama_ftype_get_default_type` in llama-quant.cpp, and the names of llama.cpp's quantize tool.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.errors import RequestError
from localllm.gguf import FILE_TYPES, GGML_TYPES_BY_NAME, GGMLType

_BASE_TYPES = {
    "F32": "f32", "F16": "f16", "BF16": "bf16",
    "Q4_0": "q4_0", "Q4_1": "q4_1", "Q5_0": "q5_0", "Q5_1": "q5_1", "Q8_0": "q8_0",
    "Q2_K": "q2_K", "Q2_K_S": "q2_K", "Q3_K_S": "q3_K", "Q3_K_M": "q3_K", "Q3_K_L": "q3_K",
    "Q4_K_S": "q4_K", "Q4_K_M": "q4_K", "Q5_K_S": "q5_K", "Q5_K_M": "q5_K", "Q6_K": "q6_K",
    "IQ4_NL": "iq4_nl", "IQ4_XS": "iq4_xs",
}  # fmt: skip
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_NUMBERS = {name: number for number, name in FILE_TYPES.items()}
_FLOATS = frozenset({"f32", "f16", "bf16"})


@dataclass(frozen=True, slots=True)
class FileType:
    """A mix of tensor types, by the name that it is known by."""

    name: str
    number: int
    """`general.file_type`."""
    base: GGMLType
    """The type of tensors that no rule treats otherwise."""

    @property
    def is_quantized(self) -> bool:
        return is_quantized(self.base)


def is_quantized(kind: GGMLType) -> bool:
    """Tell whether a type stores weights in blocks with scales."""
    return kind.name not in _FLOATS


_FILE_TYPES = {name: FileType(name, _NUMBERS[name], GGML_TYPES_BY_NAME[base]) for name, base in _BASE_TYPES.items()}
FILE_TYPE_NAMES = tuple(_FILE_TYPES)
"""Names of the file types that can be made."""


def file_type(name: str) -> FileType:
    """Return the file type of this name, in upper or lower case; "Q4_K" is "Q4_K_M".

    Raises:
        RequestError: there is none.
    """
    upper = name.upper()
    found = _FILE_TYPES.get(_ALIASES.get(upper, upper))
    if found is None:
        raise RequestError(f"{name!r} is no file type that can be made.", hint=f"One of {', '.join(FILE_TYPE_NAMES)}.")
    return found
