"""Which errors the model's predictions mind, on disk: for each weight, the two factors that two-sided feedback needs.

    gradients.json                 what they depend on, as in a folder of second moments
    blk.0.attn_q.weight.npz        inputs [n_cols, n_cols] and outputs [n_rows, n_rows], float32, symmetric; of many
                                   rows the outputs' diagonal blocks alone: outputs.0, outputs.1 and so on

Near the weights, the KL divergence of the next tokens is a quadratic in a weight's error; its matrix is the Fisher
information, and here one Kronecker product for each weight. With x a token's input and g the gradient of the log
probability of a token drawn from the model, at the weight's output, over all tokens:

    inputs  = Σ |g|² x xᵀ           outputs = Σ |x|² g gᵀ

Both are means over the tokens. llama.cpp gives none: `localllm.gradients` computes them, `kl_aware` writes them.

Source: Tseng, Sun, De Sa 2025 (YAQA), section 3, sketch A without its power iteration.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from localllm.calibrate.folder import Key
from localllm.errors import RequestError
from localllm.gguf.new_file import new_file
from localllm.gradients import FisherFactors
from localllm.quantize.gptq import SecondMoments
from localllm.quantize.moments import Gradients

KEY_FILE = "gradients.json"
BOUNDARY_FILE = "boundary.npz"
"""In the folder while layers are missing: the last layer that is done, and the gradient by what it reads."""
_OUTPUTS = "outputs"
_AGAIN = "Collect the gradients again, into another folder."


class GradientFolder:
    """A folder of gradients' moments: `open` one to read, `create` one to write."""

    def __init__(self, path: Path, key: Key) -> None:
        self.path = path
        self.key = key

    @classmethod
    def create(cls, path: Path, key: Key, *, may_replace: bool = False) -> GradientFolder:
        """Make a folder, or take one that is there.

        Args:
            path: the folder.
            key: what its gradients depend on.
            may_replace: delete what is there of another key.

        Raises:
            RequestError: it is of another model or text.
        """
        if (path / KEY_FILE).exists() and cls.open(path).key != key:
            if not may_replace:
                raise RequestError(
                    f"{path} holds the gradients of another model, or text.",
                    hint="Delete it, or calibrate into another folder.",
                )
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, exist_ok=True)
        key.write(path / KEY_FILE)
        return cls(path, key)

    @classmethod
    def open(cls, path: Path) -> GradientFolder:
        """Read a folder's key.

        Raises:
            RequestError: there are no gradients, or those of another version.
        """
        return cls(path, Key.read(path / KEY_FILE))

    @property
    def is_finished(self) -> bool:
        """Whether no layer is known to be missing."""
        return not (self.path / BOUNDARY_FILE).exists()

    def covers(self, weight: str) -> bool:
        """Whether there are gradients of a weight."""
        return self._file(weight).exists()

    def write(self, weight: str, factors: FisherFactors) -> None:
        """Write what was collected of a weight.

        Raises:
            RequestError: it cannot be written.
            NotEnoughDisk: the disk is full.
        """
        blocks = [block / factors.n_tokens for block in factors.outputs]
        names = [f"{_OUTPUTS}.{index}" for index in range(len(blocks))] if len(blocks) > 1 else [_OUTPUTS]
        arrays: dict[str, Any] = dict(zip(names, blocks, strict=True))
        with new_file(self._file(weight)) as file:
            np.savez(file, inputs=factors.inputs / factors.n_tokens, **arrays)

    def gradients(self, weight: str) -> Gradients:
        """Return what is known of a weight.

        Raises:
            RequestError: there is nothing, or it is damaged.
        """
        path = self._file(weight)
        try:
            with np.load(path, allow_pickle=False) as file:
                outputs = [SecondMoments(file[name], 1) for name in file.files if name.startswith(_OUTPUTS)]
                return Gradients(SecondMoments(file["inputs"], 1), tuple(outputs))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RequestError(f"{path} is missing or damaged.", hint=_AGAIN) from error

    def _file(self, weight: str) -> Path:
        return self.path / f"{weight}.npz"
