"""A model to work on as one GGUF file, in whatever form it comes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from localllm.convert import Conversion, convert, is_adapter, stored_type
from localllm.errors import RequestError
from localllm.gguf.new_file import make_folder
from localllm.quantize.checks import check_replaceable


class SourceWatcher(Protocol):
    """Hears of the progress; what it raises ends the work."""

    def converting(self, n_done: int, n_total: int) -> None:
        """So many bytes of the weights are converted."""

    def converted(self, made: Conversion) -> None:
        """A folder became a file."""


@contextmanager
def as_gguf(source: Path, target: Path, watcher: SourceWatcher, *, may_replace: bool = False) -> Iterator[Path]:
    """Yield the GGUF file of a model; a Hugging Face folder is converted first, with nothing lost.

    The file then lies in a folder beside `target`, which goes when all is done. After an error it stays, since what a
    calibration found is of this file, and is used again unless the source has changed.

    Args:
        source: a GGUF file, or a folder with config.json, .safetensors files and a tokenizer.
        target: what is made in the end.
        watcher: hears of the progress.
        may_replace: a target that is there already is no reason not to begin.

    Raises:
        LocalLLMError: as `convert`; the folder holds an adapter; the target is there already.
    """
    if not source.is_dir():
        yield source
        return
    if is_adapter(source):
        raise RequestError(
            f"{source} holds an adapter, not a model.",
            hint="Name the model's folder. `localllm convert` makes a file for --lora of an adapter.",
        )
    check_replaceable(target, may_replace=may_replace)
    folder = target.with_name(f".{target.name}.source")
    made = folder / f"{source.resolve().name}.gguf"
    if not _is_newer(made, source):
        kind = stored_type(source)
        make_folder(folder)
        try:
            watcher.converted(convert(source, made, kind, watcher.converting))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def _is_newer(made: Path, source: Path) -> bool:
    """Whether a file was made after everything that it was made of."""
    if not made.exists():
        return False
    return made.stat().st_mtime_ns > max(path.stat().st_mtime_ns for path in source.iterdir())
