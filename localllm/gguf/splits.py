"""Models that are split over several files: `NAME-00001-of-00003.gguf`, and so on.

The first file holds the metadata; llama.cpp finds the others by name, so a renamed part is a missing part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from localllm.gguf.problems import invalid, printable
from localllm.gguf.values import MetadataValue

COUNT_KEY = "split.count"
INDEX_KEY = "split.no"
TENSORS_KEY = "split.tensors.count"
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_NO_RENAMING = "Keep all parts in one folder, under the names that they were published with."


def split_position(path: Path, metadata: Mapping[str, MetadataValue], types: Mapping[str, str]) -> tuple[int, int]:
    """Return which part of a model a file is, from 0, and of how many; (0, 1) for a whole model.

    Raises:
        InvalidModelFile: the numbers are of another type than llama.cpp insists on, or impossible.
    """
    count = _number(path, metadata, types, COUNT_KEY, 1)
    index = _number(path, metadata, types, INDEX_KEY, 0)
    if count <= 1:
        return 0, 1
    if INDEX_KEY not in metadata or index >= count:
        raise invalid(path, f"says that it is part {index + 1} of {count}")
    return index, count


def part_paths(path: Path, count: int) -> list[Path]:
    """Return the paths of all parts of a split model, in order.

    Args:
        path: the first part.
        count: how many parts its header announces.

    Raises:
        InvalidModelFile: the file is not named as a first part, or parts are missing.
    """
    match = _NAME.fullmatch(path.name)
    expected = f"-00001-of-{count:05d}.gguf"
    if not match or not path.name.endswith(expected):
        raise invalid(path, f"is part 1 of {count}, and its name does not end in {expected}", _NO_RENAMING)
    paths = [path.with_name(f"{match[1]}-{n + 1:05d}-of-{count:05d}.gguf") for n in range(count)]
    missing = [part for part in paths if not part.exists()]
    if missing:
        problem = f"{len(missing)} of its {count} parts are missing, first {printable(missing[0].name, 200)}"
        raise invalid(path, problem, f"Download the missing parts into the same folder. {_NO_RENAMING}")
    return paths


def check_first_part(path: Path, index: int, count: int) -> None:
    """Refuse a file that is a later part: only the first one can be opened.

    Raises:
        InvalidModelFile: `index` is not 0.
    """
    if index == 0:
        return
    match = _NAME.fullmatch(path.name)
    first = f"{match[1]}-00001-of-{count:05d}.gguf" if match else f"the one named …-00001-of-{count:05d}.gguf"
    raise invalid(path, f"is part {index + 1} of {count}", f"Open the first part: {printable(first, 200)}")


def check_tensor_count(path: Path, metadata: Mapping[str, MetadataValue], n_tensors: int) -> None:
    """Compare the tensors found in all parts with the number that the first part announces.

    Raises:
        InvalidModelFile: they differ, or no number is announced.
    """
    announced = metadata.get(TENSORS_KEY)
    if announced != n_tensors:
        raise invalid(path, f"announces {announced} tensors in {TENSORS_KEY}; its parts hold {n_tensors}")


def _number(path: Path, metadata: Mapping[str, MetadataValue], types: Mapping[str, str], key: str, default: int) -> int:
    value = metadata.get(key, default)
    # llama.cpp ends the process over another type in a later part.
    if types.get(key, "u16") != "u16" or not isinstance(value, int):
        raise invalid(path, f"{key} is of type {types[key]} where u16 is demanded")
    return value
