"""A mix for a size: the types that hurt this model least, as measured on it, whose file is at most so large."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from localllm.errors import RequestError
from localllm.evaluate import Chunks
from localllm.gguf import GGMLType, GGUFHeader
from localllm.gguf.new_file import new_file
from localllm.quantize import FileType, Imatrix, Mix, MixOptions, Workers, file_bytes, file_type, plan_mix
from localllm.quantize.allocation import Candidate, allocate, candidates, groups_of, padded
from localllm.store.fingerprint import fingerprint
from localllm.workshop.sensitivity import measure_sensitivity

_FILE_TYPES = {
    "q2_K": "Q2_K", "q3_K": "Q3_K_M", "iq4_xs": "IQ4_XS", "iq4_nl": "IQ4_NL", "q4_K": "Q4_K_M", "q4_1": "Q4_1",
    "q5_0": "Q5_0", "q5_K": "Q5_K_M", "q5_1": "Q5_1", "q6_K": "Q6_K", "q8_0": "Q8_0", "f16": "F16",
}  # fmt: skip
"""What a file is called whose weights are mostly of this type."""
FOLDER = "allocation"
"""In the folder of a calibration, for what is measured here."""


@dataclass(frozen=True)
class Budget:
    """How large the file may be; one of the two."""

    n_bytes: int | None = None
    bpw: float | None = None
    """Bits per weight, of the whole file."""

    def of(self, header: GGUFHeader) -> int:
        """Return the bytes for this model."""
        if self.n_bytes is not None:
            return self.n_bytes
        assert self.bpw is not None
        return int(self.bpw * sum(tensor.n_params for tensor in header.tensors) / 8)


def plan_budget(
    header: GGUFHeader,
    budget: Budget,
    options: MixOptions,
    imatrix: Imatrix,
    more_pairs: Sequence[tuple[str, bytes]],
    chunks: Callable[[], Chunks],
    workers: Workers,
    folder: Path,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Mix:
    """Choose the types.

    Args:
        header: of the 16-bit source.
        budget: for the file.
        options: tensors whose types are given.
        imatrix: of its inputs.
        more_pairs: metadata that the file will have besides.
        chunks: returns what the model is measured on; called only if it must be.
        workers: the threads to use.
        folder: for the measurements, which are kept there and used again.
        on_progress: hears what is done, how much of it, and how much there is.

    Raises:
        RequestError: no types make so small a file.
        LocalLLMError: as `measure_sensitivity`.
    """
    pure = replace(options, is_pure=True)
    whole = plan_mix(header, file_type("Q8_0"), pure, has_imatrix=True)
    found = candidates(header, imatrix, workers, lambda done, total: on_progress("trying types", done, total))
    other = plan_mix(header, file_type("Q4_0"), pure, has_imatrix=True)
    free = {name: choices for name, choices in found.items() if whole.types[name] is not other.types[name]}
    sizes = {tensor.name: tensor.n_params for tensor in header.tensors}
    other_bytes = file_bytes(header, whole, more_pairs) - sum(
        padded(whole.types[name].n_bytes(sizes[name]), header.alignment) for name in free
    )
    cost, group = _sensitivity(header, free, imatrix, chunks, workers, folder, on_progress), groups_of(header)
    types = allocate(free, lambda name: cost[group[name]], budget.of(header) - other_bytes)
    return replace(whole, file_type=_label(types, sizes), types={**whole.types, **types}, fallbacks=())


def _sensitivity(
    header: GGUFHeader,
    found: dict[str, list[Candidate]],
    imatrix: Imatrix,
    chunks: Callable[[], Chunks],
    workers: Workers,
    folder: Path,
    on_progress: Callable[[str, int, int], None],
) -> dict[str, float]:
    path = folder / FOLDER / f"{fingerprint(header.path)}.json"
    path.parent.mkdir(exist_ok=True)
    group = groups_of(header)
    known = _read(path)
    if not {group[name] for name in found} <= known.keys():
        known = measure_sensitivity(
            header,
            found,
            imatrix,
            chunks(),
            workers,
            path.parent,
            lambda done, total: on_progress("measuring the parts", done, total),
        )
        with new_file(path) as file:
            file.write(json.dumps(known, indent=1).encode())
    return known


def _read(path: Path) -> dict[str, float]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(group): float(value) for group, value in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RequestError(f"{path} is damaged.", hint="Delete it; it will be measured again.") from error


def _label(types: dict[str, GGMLType], sizes: dict[str, int]) -> FileType:
    counts: Counter[str] = Counter()
    for name, kind in types.items():
        counts[kind.name] += sizes[name]
    return file_type(_FILE_TYPES.get(counts.most_common(1)[0][0], "Q4_K_M") if counts else "F16")
