"""Gradients of a model over a text, written beside its second moments: KL-aware calibration.

What is finished when a run ends, however it ends, stays: the factors of each layer, the last one first, and the
gradient at that layer's inputs, from where the next run with the same model and text goes on. The files at the end
have the bytes of a run that was never stopped.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localllm.calibrate.corpus import Chunks
from localllm.calibrate.folder import Key, check_disk
from localllm.calibrate.gradients import BOUNDARY_FILE, GradientFolder
from localllm.errors import LocalLLMError, NotEnoughMemory
from localllm.gguf import GGUFHeader
from localllm.gguf.new_file import new_file
from localllm.gradients import Boundary, Decoder, GradientOptions, GradientProgress, LayerFactors, collect
from localllm.gradients.fisher import block_sizes
from localllm.gradients.output import SLICE_BYTES
from localllm.hardware.blas import blas_threads
from localllm.hardware.sizes import format_bytes
from localllm.store.fingerprint import fingerprint

GRADIENTS = "gradients"
"""In a folder of second moments, the folder of gradients of the same model, where there are any."""
_F32 = 4
_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class KlAwareOptions:
    """How to collect gradients."""

    n_threads: int
    """Of BLAS."""
    memory_bytes: int
    """For all that is in memory at once."""
    may_replace: bool = False
    """Delete what the folder holds of another model or text."""


def collect_gradients(
    header: GGUFHeader,
    chunks: Chunks,
    path: Path,
    options: KlAwareOptions,
    on_progress: Callable[[GradientProgress], None] = lambda _: None,
) -> GradientFolder:
    """Write the Fisher factors of every weight matrix of the layers into a folder, or go on with it.

    Args:
        header: the model's.
        chunks: what it reads.
        path: the folder, which is made.
        options: how.
        on_progress: called often; an exception ends the work.

    Raises:
        UnsupportedModel: something in the model has no derivatives here.
        NotEnoughMemory: a single layer does not fit.
        NotEnoughDisk: the factors, or what the layers read, do not fit.
        RequestError: the folder is of another model or text, or cannot be written to.
        ModelError: the gradients are not finite.
    """
    decoder = Decoder(header, chunks.n_ctx)
    need, allowed = _working_bytes(decoder, chunks), options.memory_bytes
    if need > allowed:
        raise NotEnoughMemory(
            f"Gradients need {format_bytes(need)}, and {format_bytes(allowed)} are allowed.",
            hint="Give more with --memory, or leave --kl-aware out.",
        )
    key = Key(fingerprint(header.path), chunks.sha256, chunks.n_tokens, chunks.n_ctx)
    writer = _Writer(GradientFolder.create(path, key, may_replace=options.may_replace), decoder, chunks)
    begun = writer.begun()
    if begun is not None and begun.layer == 0:
        return writer.folder
    writer.check_room(decoder.n_layer if begun is None else begun.layer)
    if begun is None:
        writer.begin()
    wanted = GradientOptions(path, allowed - need)
    with blas_threads(options.n_threads):
        collect(decoder, chunks.tokens, writer.write, wanted, begun=begun, on_progress=on_progress)
    return writer.folder


class _Writer:
    """Writes layers as they come, and knows how far a former run was."""

    def __init__(self, folder: GradientFolder, decoder: Decoder, chunks: Chunks) -> None:
        self.folder = folder
        self._decoder = decoder
        self._gradient_shape = (*chunks.tokens.shape, decoder.graph.n_embd)

    def begun(self) -> Boundary | None:
        """Return where a former run was, if all that it wrote is still there and whole; layer 0 if nothing is left."""
        boundary = Boundary(0, _NOTHING) if self.folder.is_finished else self._boundary()
        if boundary is None or not all(self._is_whole(layer) for layer in range(boundary.layer, self._decoder.n_layer)):
            return None
        return boundary

    def begin(self) -> None:
        """Note that all layers are missing."""
        self._write_boundary(Boundary(self._decoder.n_layer, _NOTHING))

    def check_room(self, n_layer: int) -> None:
        """Check that the disk has room for the factors of the first layers.

        Raises:
            NotEnoughDisk: it has not.
        """
        need = sum(map(self._layer_bytes, range(n_layer)))
        check_disk(self.folder.path, need, "gradients", ", or leave --kl-aware out")

    def write(self, layer: LayerFactors) -> None:
        """Write a layer, and then that it is done.

        Raises:
            RequestError, NotEnoughDisk: it cannot be written.
        """
        for name, found in layer.factors.items():
            self.folder.write(name, found)
        if layer.boundary.layer:
            self._write_boundary(layer.boundary)
        else:
            self._file.unlink()

    def _write_boundary(self, boundary: Boundary) -> None:
        with new_file(self._file, boundary.gradient.nbytes) as file:
            np.savez(file, layer=np.array(boundary.layer), gradient=boundary.gradient)

    def _boundary(self) -> Boundary | None:
        """Return where a former run was, if it finished a layer and said so."""
        try:
            with np.load(self._file, allow_pickle=False) as file:
                boundary = Boundary(int(file["layer"]), file["gradient"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return boundary if boundary.gradient.shape == self._gradient_shape else None

    def _is_whole(self, layer: int) -> bool:
        try:
            for name in self._decoder.matrices(layer):
                self.folder.gradients(name)
        except LocalLLMError:
            return False
        return True

    def _layer_bytes(self, layer: int) -> int:
        return sum(map(_factor_bytes, self._decoder.matrices(layer).values()))

    @property
    def _file(self) -> Path:
        return self.folder.path / BOUNDARY_FILE


def _factor_bytes(shape: tuple[int, int]) -> int:
    n_out, n_in = shape
    return _F32 * (n_in**2 + sum(size**2 for size in block_sizes(n_out)))


def _working_bytes(decoder: Decoder, chunks: Chunks) -> int:
    """Return about what is in memory besides what the layers read.

    It is the gradient, and a layer with its factors and one chunk's activations, or the output layer.
    """
    layers = [tuple(decoder.matrices(layer).values()) for layer in range(decoder.n_layer)]
    weights = max(sum(n_out * n_in for n_out, n_in in shapes) for shapes in layers)
    factors = max(sum(map(_factor_bytes, shapes)) for shapes in layers)
    widths = max(sum(n_out + n_in for n_out, n_in in shapes) for shapes in layers)
    scores = max(layer.attention.n_head for layer in decoder.graph.layers) * chunks.n_ctx**2
    in_layer = _F32 * (weights + 2 * chunks.n_ctx * widths + 3 * scores) + factors
    # As they are stored, and as floats.
    in_output = 2 * _F32 * decoder.n_vocab * decoder.graph.n_embd + 4 * SLICE_BYTES
    return max(in_layer, in_output) + _F32 * chunks.n_tokens * decoder.graph.n_embd
