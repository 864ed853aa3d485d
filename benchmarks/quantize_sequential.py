"""Sequential calibration: each group of layers has the second moments of what the layers before it make once quantized.

The file is made as often as there are groups, each time with more layers quantized and the others at 16 bits, and each
such file reads the calibration's text again. What comes of it is a folder of second moments like any other.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from localllm.calibrate.folder import KEY_FILE
from localllm.gguf import GGMLType, read_header
from localllm.workshop import CalibrationRequest, QuantizeRequest

Make = Callable[[Path, QuantizeRequest], None]
"""Makes a file."""
Calibrate = Callable[[Path, Path], None]
"""Reads the calibration's text with a file, and fills a folder with second moments."""


def sequential_moments(
    reference: Path, request: QuantizeRequest, folder: Path, n_groups: int, make: Make, calibrate: Calibrate
) -> None:
    """Fill a folder with moments of quantized inputs.

    Args:
        reference: the 16-bit model.
        request: what is to be made of it; its calibration's folder holds the moments of `reference`.
        folder: a new one.
        n_groups: into which the layers are parted.
        make: makes a file of `reference`.
        calibrate: reads the text.
    """
    known = request.calibration.moments
    assert known is not None
    matrices = [t for t in read_header(reference).tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    n_layers = 1 + max(int(tensor.name.split(".")[1]) for tensor in matrices)
    firsts = [n_layers * group // n_groups for group in range(n_groups)]
    folder.mkdir()
    shutil.copy(known / KEY_FILE, folder)
    copy_layers(known, folder, range(n_layers))
    for first, stop in zip(firsts[1:], [*firsts[2:], n_layers], strict=True):
        mixed, text = folder / "mixed.gguf", folder / "mixed"
        make(mixed, left_as(matrices[0].type, range(first, n_layers), request, folder))
        text.mkdir()
        calibrate(mixed, text)
        copy_layers(text, folder, range(first, stop))
        mixed.unlink()
        shutil.rmtree(text)


def left_as(kind: GGMLType, layers: range, request: QuantizeRequest, folder: Path) -> QuantizeRequest:
    """Leave some layers of the type that they have."""
    pattern = re.compile(rf"^blk\.({'|'.join(map(str, layers))})\.")
    return replace(
        request,
        options=replace(request.options, tensor_types=((pattern, kind), *request.options.tensor_types)),
        calibration=CalibrationRequest(moments=folder),
    )


def copy_layers(source: Path, target: Path, layers: range) -> None:
    """Copy the moments of some layers."""
    for layer in layers:
        for path in source.glob(f"blk.{layer}.*"):
            shutil.copy(path, target)
