"""Second moments on disk: a folder with one .npy file for each input, or expert, and what it is in a .json beside it.

    calibration.json        the model's fingerprint, the text's digest, tokens, n_ctx
    blk.0.attn_q.npy        H [n_cols, n_cols] float32, symmetric: the sum of x xᵀ over all rows
    blk.0.attn_q.json       the weights that read the input, the expert's number, n_rows, the digest of H
    blk.0.attn_q.first4.*   the same of the first 4 tokens of each chunk, where keys and values are made of the input

A part counts from the moment its .json is there, which is moved into place after the .npy has reached the disk. An
expert that saw nothing has no .npy.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.gram import Matrix
from localllm.calibrate.plan import MomentPart
from localllm.errors import NotEnoughDisk, RequestError
from localllm.gguf.new_file import new_file
from localllm.hardware.sizes import format_bytes
from localllm.quantize.gptq import SecondMoments
from localllm.quantize.sinks import N_SINK

KEY_FILE = "calibration.json"
FORMAT = 1


@dataclass(frozen=True)
class Key:
    """What the moments, or gradients, depend on.

    Another llama.cpp, or number of threads, rounds them otherwise, and is no other key.
    """

    model: str
    """The model file's fingerprint."""
    text_sha256: str
    """Of the chunks' tokens."""
    n_tokens: int
    n_ctx: int
    format: int = FORMAT

    @property
    def text(self) -> str:
        """All of it in one line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, path: Path) -> Key:
        """Read what `write` wrote.

        Raises:
            RequestError: there is none, or one of another version.
        """
        fields = _read_json(path)
        if fields.keys() != {field.name for field in dataclasses.fields(cls)} or fields["format"] != FORMAT:
            raise RequestError(
                f"{path} is of another version, or damaged.", hint="Calibrate again into another folder."
            )
        return cls(**fields)

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            RequestError: it cannot be written.
        """
        _write_json(path, asdict(self))


@dataclass(frozen=True)
class Moment:
    """The second moment of what a matrix reads."""

    h: NDArray[np.float32]
    """[n_cols, n_cols]: the sum of x xᵀ, not divided by `n_rows`; mapped from the file, read only."""
    n_rows: int
    """Tokens that it is the sum of; 0 for an expert that saw none."""
    weights: tuple[str, ...]
    """The tensors that read this input."""


class MomentFolder:
    """A folder of second moments.

        folder = MomentFolder.open(path)
        moment = folder.moment("blk.0.attn_k.weight")

    `open` reads a folder; `create` makes one to write to, or goes on with it.
    """

    def __init__(self, path: Path, key: Key) -> None:
        self.path = path
        self.key = key
        self._parts: dict[tuple[str, int, int | None], str] | None = None

    @classmethod
    def create(cls, path: Path, key: Key, *, may_replace: bool = False) -> MomentFolder:
        """Make a folder, or take one that was begun with this key.

        Args:
            path: the folder.
            key: what its moments depend on.
            may_replace: delete what is there of another key.

        Raises:
            RequestError: it is something else, is of another model or text, or cannot be written to.
        """
        if (path / KEY_FILE).exists():
            found = cls.open(path)
            if found.key == key:
                return found
            if not may_replace:
                raise RequestError(
                    f"{path} holds the second moments of {_difference(found.key, key)}.",
                    hint="Give another folder, or delete this one.",
                )
            shutil.rmtree(path, ignore_errors=True)
        if path.exists() and (not path.is_dir() or any(not file.name.startswith(".") for file in path.iterdir())):
            raise RequestError(
                f"{path} is there and holds something else than second moments.", hint="Give a folder of its own."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"Cannot make {path}: {error.strerror}.", hint="Check the path of --moments.") from error
        key.write(path / KEY_FILE)
        return cls(path, key)

    @classmethod
    def open(cls, path: Path) -> MomentFolder:
        """Read a folder's key.

        Raises:
            RequestError: it holds no second moments, or those of another version.
        """
        return cls(path, Key.read(path / KEY_FILE))

    def check_room(self, parts: Sequence[MomentPart]) -> None:
        """Check that the disk has room for these parts.

        Raises:
            NotEnoughDisk: it has not.
        """
        check_disk(self.path, sum(part.n_bytes for part in parts), "second moments")

    def has(self, part: MomentPart) -> bool:
        """Whether a part is there, whole and undamaged; one that is not is deleted."""
        try:
            fields = _read_json(self._json(part.name))
            if fields["n_rows"] == 0 or _digest(self._load(part.name, part.source.n_cols)) == fields["digest"]:
                return True
        except (RequestError, KeyError, TypeError):
            pass
        self._json(part.name).unlink(missing_ok=True)
        return False

    def write(self, part: MomentPart, h: Matrix, n_rows: int) -> None:
        """Write one finished part.

        Raises:
            RequestError: it cannot be written.
            NotEnoughDisk: the disk is full.
        """
        source = part.source
        fields = {"weights": source.weights, "mat": part.mat, "n_mats": source.n_mats, "n_cols": source.n_cols}
        fields |= {"n_first": part.n_first, "n_rows": n_rows, "digest": _digest(h) if n_rows else None}
        if n_rows:
            with new_file(self.path / f"{part.name}.npy", part.n_bytes) as file:
                _save_array(file, h)
        _write_json(self._json(part.name), fields)

    def moment(self, weight: str, mat: int = 0) -> Moment:
        """Return the second moment of what a weight, or one of its experts, reads.

        Raises:
            RequestError: it is not there, or damaged.
        """
        name = self._known.get((weight, mat, None))
        if name is None:
            raise RequestError(
                f"{self.path} has no second moment of {weight}{f', matrix {mat}' if mat else ''}.",
                hint="Was the calibration finished, and is it of this model?",
            )
        return self._moment(name)

    def _moment(self, name: str) -> Moment:
        fields = _read_json(self._json(name))
        n_cols, n_rows = int(fields["n_cols"]), int(fields["n_rows"])
        h = self._load(name, n_cols) if n_rows else np.zeros((n_cols, n_cols), dtype=np.float32)
        return Moment(h, n_rows, tuple(fields["weights"]))

    def covers(self, weight: str) -> bool:
        """Whether there are second moments of what a weight reads."""
        return (weight, 0, None) in self._known

    def input_of(self, weight: str) -> str:
        """Return the name of what a weight reads, which those that read the same share."""
        return self._known[weight, 0, None]

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        """Return the moments of what one of a weight's matrices reads; None for an expert that saw nothing.

        Raises:
            RequestError: they are not there, or damaged.
        """
        moment = self.moment(weight, matrix)
        return SecondMoments(moment.h, moment.n_rows) if moment.n_rows else None

    def sink_moments(self, weight: str) -> SecondMoments | None:
        """Return the moments of what a weight reads for the first `N_SINK` tokens of each chunk; None if not there.

        There are some only of inputs of which keys or values are made, and none in folders of former versions.

        Raises:
            RequestError: they are damaged.
        """
        name = self._known.get((weight, 0, N_SINK))
        if name is None:
            return None
        moment = self._moment(name)
        return SecondMoments(moment.h, moment.n_rows)

    @property
    def _known(self) -> dict[tuple[str, int, int | None], str]:
        """What the parts are called, by weight, expert, and how many tokens at the start of a chunk they are of."""
        if self._parts is None:
            self._parts = self._scan()
        return self._parts

    def _scan(self) -> dict[tuple[str, int, int | None], str]:
        found: dict[tuple[str, int, int | None], str] = {}
        for path in sorted(self.path.glob("*.json")):
            if path.name != KEY_FILE:
                fields = _read_json(path)
                of = int(fields["mat"]), fields.get("n_first")
                found.update({(weight, *of): path.stem for weight in fields["weights"]})
        return found

    def _load(self, name: str, n_cols: int) -> NDArray[np.float32]:
        path = self.path / f"{name}.npy"
        try:
            h: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RequestError(f"{path} is missing or damaged.", hint="Run the calibration again.") from error
        if h.shape != (n_cols, n_cols) or h.dtype != np.float32:
            raise RequestError(f"{path} holds {h.dtype} {h.shape}, not an H.", hint="Run the calibration again.")
        return h

    def _json(self, name: str) -> Path:
        return self.path / f"{name}.json"


def check_disk(folder: Path, n_bytes: int, what: str, otherwise: str = "") -> None:
    """Refuse before the work what the disk of a folder has no room for.

    Raises:
        NotEnoughDisk: it has fewer than `n_bytes` free.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise NotEnoughDisk(
            f"The {what} take {format_bytes(n_bytes)}; the disk of {folder} has {format_bytes(free)} free.",
            hint=f"Give --moments a folder on another disk{otherwise}.",
        )


def _difference(found: Key, wanted: Key) -> str:
    if found.model != wanted.model:
        return "another model"
    return "another text" if found.n_ctx == wanted.n_ctx else f"chunks of {found.n_ctx} tokens, not {wanted.n_ctx}"


def _digest(h: Matrix) -> str:
    return blake2b(np.ascontiguousarray(h).data.cast("B"), digest_size=16).hexdigest()


def _save_array(file: BinaryIO, h: Matrix) -> None:
    """Write what `np.save` writes, which would not say why a write failed."""
    h = np.ascontiguousarray(h)
    header_data = np.lib.format.header_data_from_array_1_0(h)
    np.lib.format.write_array_header_1_0(file, header_data)
    file.write(h.data)


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    with new_file(path) as file:
        file.write(json.dumps(fields, indent=2).encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} is missing or damaged.", hint="Run the calibration again.") from error
    if not isinstance(fields, dict):
        raise RequestError(f"{path} is damaged.", hint="Run the calibration again.")
    return fields
