"""Importance matrices: how large the inputs of each weight matrix were, per column, over a calibration text.

llama.cpp's files, in both forms: GGUF, which is written and read, and the older .dat, which is read. What the sums were
taken over is not known here.

Source: `common_imatrix_load` in imatrix-loader.cpp and `save_imatrix` in llama.cpp's imatrix tool. Stricter than these:
what is not finite, negative, or of no sensible shape is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, ArrayRef, GGUFHeader, TensorInfo, printable, read_part
from localllm.gguf.new_file import new_file
from localllm.gguf.problems import invalid, quoted
from localllm.gguf.source import MAGIC, read_bytes
from localllm.gguf.writing import TensorSpec, head_bytes, number_pair, padding, text_pair, texts_pair
from localllm.quantize.imatrix_dat import read_dat

KIND = "imatrix"
SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS_KEY, N_CHUNKS_KEY, CHUNK_SIZE_KEY = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
NOT_ONE = "Give a file that `localllm imatrix` or llama.cpp's imatrix tool has made."


@dataclass(frozen=True, eq=False)
class ImatrixEntry:
    """What is known of the inputs of one weight tensor."""

    sums: NDArray[np.float32]
    """[n_mat, n_cols] float32: sums of squared inputs, by matrix (expert) and column."""
    counts: NDArray[np.int64]
    """[n_mat] int64: tokens that each sum is over; 0 for an expert that no token reached."""

    def __post_init__(self) -> None:
        if self.sums.ndim != 2 or self.counts.shape != self.sums.shape[:1] or not self.sums.size:
            raise ValueError(f"sums {self.sums.shape} and counts {self.counts.shape} do not go together")
        if not np.isfinite(self.sums).all() or (self.sums < 0).any() or (self.counts < 0).any():
            raise ValueError("sums and counts must be finite and not negative")

    @property
    def importance(self) -> NDArray[np.float32]:
        """[n_mat, n_cols] float32: mean squares. An expert without tokens counts all its columns alike, as 1."""
        counts = self.counts[:, None].astype(np.float32)
        means = self.sums / np.where(counts > 0, counts, np.float32(1))
        return np.where(counts > 0, means, np.float32(1)).astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class Imatrix:
    """An importance matrix: an entry for each weight tensor that was seen at work."""

    entries: Mapping[str, ImatrixEntry]
    """By the tensor's name, such as "blk.0.attn_q.weight"."""
    datasets: tuple[str, ...] = ()
    """Names of the texts."""
    n_chunks: int = 0
    chunk_size: int = 0
    """Tokens of a chunk; 0 where the file does not say."""

    def importance(self, tensor: TensorInfo) -> NDArray[np.float32] | None:
        """Return the importance of a tensor's input columns: [n_mat, n_cols] float32, or None if it was not seen.

        Raises:
            RequestError: the entry is of another shape than the tensor, so of another model.
        """
        entry = self.entries.get(tensor.name)
        if entry is None:
            return None
        n_cols, _, n_mat = (*tensor.shape, 1, 1)[:3]
        if entry.sums.size != n_cols * n_mat:
            problem = f"has {entry.sums.size:,} values for {printable(tensor.name)}, which takes {n_cols * n_mat:,}"
            raise RequestError(f"The importance matrix {problem}.", hint=ANOTHER_MODELS)
        return entry.importance.reshape(n_mat, n_cols)


ANOTHER_MODELS = "It was made for another model. Make one for this model with `localllm imatrix`."


def read_imatrix(path: Path) -> Imatrix:
    """Read an importance matrix of either form.

    Raises:
        RequestError: the file cannot be opened.
        InvalidModelFile: it is no importance matrix, or a damaged one.
    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        shown = printable(str(path), 200)
        raise RequestError(f"Cannot read {shown}: {error.strerror}.", hint="Check the path of --imatrix.") from error
    return _read_gguf(path) if is_gguf else _from_dat(path)


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write an importance matrix in llama.cpp's GGUF form; a file that is there is replaced.

    Raises:
        RequestError: the file cannot be written.
        NotEnoughDisk: the disk has no room for it.
    """
    f32 = GGML_TYPES_BY_NAME["f32"]
    specs: list[TensorSpec] = []
    arrays: list[NDArray[np.float32]] = []
    for name, entry in sorted(imatrix.entries.items()):
        n_mat, n_cols = entry.sums.shape
        specs += [TensorSpec(name + SUMS, (n_cols, n_mat), f32), TensorSpec(name + COUNTS, (1, n_mat), f32)]
        arrays += [entry.sums, entry.counts.astype(np.float32)]
    head = head_bytes(
        [
            text_pair("general.type", KIND),
            texts_pair(DATASETS_KEY, imatrix.datasets),
            number_pair(N_CHUNKS_KEY, "u32", imatrix.n_chunks),
            number_pair(CHUNK_SIZE_KEY, "u32", imatrix.chunk_size),
        ],
        specs,
    )
    n_bytes = len(head) + sum(spec.n_bytes + len(padding(spec.n_bytes)) for spec in specs)
    with new_file(path, n_bytes) as file:
        file.write(head)
        for array in arrays:
            file.write(array.astype("<f4", order="C").tobytes())
            file.write(padding(array.nbytes))


def _read_gguf(path: Path) -> Imatrix:
    header = read_part(path)
    if header.metadata.get("general.type") != KIND:
        found = header.metadata.get(
            "general.architecture", header.metadata.get("general.type", "nothing that it names")
        )
        raise invalid(path, f"is no importance matrix: it holds {quoted(str(found))}", NOT_ONE)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = {name.removesuffix(end) for name in tensors for end in (SUMS, COUNTS) if name.endswith(end)}
    if not names:
        raise invalid(path, "is an importance matrix without entries", NOT_ONE)
    return Imatrix(
        {name: _read_entry(path, name, tensors.get(name + SUMS), tensors.get(name + COUNTS)) for name in sorted(names)},
        _datasets(header),
        _number(header, N_CHUNKS_KEY),
        _number(header, CHUNK_SIZE_KEY),
    )


def _read_entry(path: Path, name: str, sums: TensorInfo | None, counts: TensorInfo | None) -> ImatrixEntry:
    if sums is None or counts is None:
        raise invalid(path, f"has only one of the sums and the counts of {quoted(name)}")
    if sums.type.name != "f32" or counts.type.name != "f32":
        raise invalid(path, f"the sums and counts of {quoted(name)} are not of type f32")
    if sums.n_params % counts.n_params:
        raise invalid(path, f"{quoted(name)} has {sums.n_params:,} sums for {counts.n_params:,} counts")
    return checked_entry(path, name, _floats(path, sums).reshape(counts.n_params, -1), _floats(path, counts))


def checked_entry(path: Path, name: str, sums: NDArray[np.float32], counts: NDArray[np.float32]) -> ImatrixEntry:
    """Return an entry of a file, or say which one is wrong."""
    for what, values in (("sum", sums), ("count", counts)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise invalid(path, f"a {what} of {quoted(name)} is NaN, infinite or negative", NOT_ONE)
    return ImatrixEntry(sums, np.floor(counts.astype(np.float64) + 0.5).astype(np.int64))


def _floats(path: Path, tensor: TensorInfo) -> NDArray[np.float32]:
    return np.frombuffer(read_bytes(path, tensor.offset, tensor.n_bytes), dtype="<f4").astype(np.float32)


def _datasets(header: GGUFHeader) -> tuple[str, ...]:
    value = header.metadata.get(DATASETS_KEY)
    if not isinstance(value, ArrayRef) or value.element_type != "str":
        return ()
    return tuple(map(str, value.read()))


def _number(header: GGUFHeader, key: str) -> int:
    value = header.metadata.get(key, 0)
    return value if isinstance(value, int) else 0


def _from_dat(path: Path) -> Imatrix:
    """The older form has one count for each entry, of chunks; without one, its sums are the importance."""
    found = read_dat(path)
    entries = {
        name: checked_entry(path, name, sums[None, :], np.array([max(n_chunks, 1)], dtype=np.float32))
        for name, (sums, n_chunks) in found.entries.items()
    }
    return Imatrix(entries, (found.dataset,) if found.dataset else (), found.n_chunks)
