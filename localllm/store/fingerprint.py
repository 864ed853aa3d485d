"""Telling files apart by what is in them, without reading all of it."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from localllm.errors import ModelNotFound

_HEAD_BYTES = 16 << 20
_SAMPLE_BYTES = 4096
_N_SAMPLES = 256


def fingerprint(path: Path) -> str:
    """Return a digest of a file's size, its first 16 MiB, and 256 samples of 4 KiB spread over the rest.

    Two models differ in their headers, or all over their weights; a file that was cut or written half has another size.

    Raises:
        ModelNotFound: it cannot be read.
    """
    digest = blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(size.to_bytes(8, "little"))
            file.seek(0)
            digest.update(file.read(_HEAD_BYTES))
            for i in range(_N_SAMPLES) if size > _HEAD_BYTES else ():
                file.seek(_HEAD_BYTES + (size - _HEAD_BYTES) * i // _N_SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise ModelNotFound(f"Cannot read {path}: {error.strerror}.", hint="Is it there, and yours?") from error
    return digest.hexdigest()
