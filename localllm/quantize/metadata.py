"""The metadata of a quantized file: the source's, byte for byte, and what quantizing adds.

Source: `llama_model_quantize_impl` in llama-quant.cpp; the keys of importance matrices are those of llama.cpp's
quantize tool.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localllm.gguf import GGUFHeader
from localllm.gguf.adapter import FOLDED_KEY
from localllm.gguf.source import read_bytes
from localllm.gguf.writing import number_pair, text_pair
from localllm.quantize.file_types import FileType
from localllm.quantize.imatrix import Imatrix

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION."""
_VERSION_KEY, _FILE_TYPE_KEY = "general.quantization_version", "general.file_type"
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_MAX_TEXT_BYTES = 127
"""llama.cpp cuts these strings there."""


def output_pairs(header: GGUFHeader, file_type: FileType, more: Sequence[tuple[str, bytes]] = ()) -> list[bytes]:
    """Return the metadata pairs of the file to make, in order.

    Args:
        header: the source's; a value that is no UTF-8 is kept as it is.
        file_type: the mix that is made.
        more: keys and whole pairs that are added, and replace the source's.
    """
    own = [
        (_VERSION_KEY, number_pair(_VERSION_KEY, "u32", QUANTIZATION_VERSION)),
        (_FILE_TYPE_KEY, number_pair(_FILE_TYPE_KEY, "u32", file_type.number)),
        *more,
    ]
    replaced = {key for key, _ in own}.union(_SPLIT_KEYS)
    kept = [span for key, span in header.metadata_spans.items() if key not in replaced]
    return [*(read_bytes(header.path, start, end - start) for start, end in kept), *(pair for _, pair in own)]


def imatrix_pairs(path: Path, imatrix: Imatrix) -> list[tuple[str, bytes]]:
    """Return what a file says of the importance matrix that it was made with. Of its path, the name only."""
    pairs = [_text("quantize.imatrix.file", path.name)]
    if imatrix.datasets:
        pairs.append(_text("quantize.imatrix.dataset", imatrix.datasets[0]))
    pairs.append(_number("quantize.imatrix.entries_count", len(imatrix.entries)))
    if imatrix.n_chunks:
        pairs.append(_number("quantize.imatrix.chunks_count", imatrix.n_chunks))
    return pairs


def fold_pairs() -> list[tuple[str, bytes]]:
    """Return what a file says whose channels may be scaled: adapters of the original do not fit it."""
    return [(FOLDED_KEY, number_pair(FOLDED_KEY, "bool", True))]


def _text(key: str, value: str) -> tuple[str, bytes]:
    return key, text_pair(key, value.encode()[:_MAX_TEXT_BYTES].decode("utf-8", "ignore"))


def _number(key: str, value: int) -> tuple[str, bytes]:
    return key, number_pair(key, "u32", value)
