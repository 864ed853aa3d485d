"""What a model's file says of it, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from localllm.errors import LocalLLMError
from localllm.gguf import FILE_TYPES, ArrayRef, GGUFHeader, ModelShape, read_header

Scalar = bool | int | float | str
_TEMPLATE = "tokenizer.chat_template"
_MAX_TEXT_CHARS = 4096


@dataclass(frozen=True)
class ModelFile:
    """A file's facts; those of the header are empty where it cannot be read."""

    digest: str
    """64 hexadecimal digits that change when the file does. Of its path, size and time, not of its gigabytes."""
    modified: datetime
    n_bytes: int
    architecture: str = ""
    n_params: int = 0
    file_type: str = ""
    """llama.cpp's name of the recipe, such as "Q4_K_M"."""
    n_layer: int = 0
    is_encoder: bool = False
    can_rank: bool = False
    chat_template: str = ""
    metadata: tuple[tuple[str, Scalar], ...] = ()
    """Numbers and short texts of the header, by key."""


def read_model_file(path: Path) -> ModelFile:
    """Return the facts of a file, remembered until it changes. It reads the file, so call it on a thread."""
    try:
        stat = path.stat()
    except OSError:
        return ModelFile(sha256(str(path).encode("utf-8", "replace")).hexdigest(), datetime.fromtimestamp(0, UTC), 0)
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read(path: Path, n_bytes: int, mtime_ns: int) -> ModelFile:
    digest = sha256(f"{path}\0{n_bytes}\0{mtime_ns}".encode("utf-8", "replace")).hexdigest()
    modified = datetime.fromtimestamp(mtime_ns / 1e9, UTC)
    try:
        header = read_header(path)
        shape = ModelShape.from_header(header)
    except LocalLLMError:
        return ModelFile(digest, modified, n_bytes)
    file_type = header.metadata.get("general.file_type")
    return ModelFile(
        digest=digest,
        modified=modified,
        n_bytes=header.n_bytes,
        architecture=header.architecture,
        n_params=sum(tensor.n_params for tensor in header.tensors),
        file_type=FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
        n_layer=shape.n_layer,
        is_encoder=shape.is_encoder,
        can_rank=shape.can_rank,
        chat_template=str(header.metadata.get(_TEMPLATE, "")),
        metadata=tuple(_scalars(header)),
    )


def _scalars(header: GGUFHeader) -> list[tuple[str, Scalar]]:
    return [
        (key, value)
        for key, value in header.metadata.items()
        if not isinstance(value, ArrayRef)
        and not key.startswith(_TEMPLATE)
        and not (isinstance(value, str) and len(value) > _MAX_TEXT_CHARS)
    ]
