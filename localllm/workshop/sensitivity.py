"""How much a model minds errors in its parts: each group of tensors rounded coarsely, the rest left as it is."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from localllm.evaluate import Chunks, Subject, compare
from localllm.gguf import GGUFHeader
from localllm.llama import Model
from localllm.quantize import Imatrix, Mix, Rtn, Workers, file_type, quantize
from localllm.quantize.allocation import Candidate, groups_of
from localllm.quantize.categories import file_order

N_AT_ONCE = 4
"""Files that are read side by side, so that the source is read once for all of them."""
PROBE_BITS = 4.0
"""Groups are rounded to the type next above so many bits per weight: errors that are felt, and still small."""
_PREFIX = ".probes-"


def measure_sensitivity(
    header: GGUFHeader,
    found: Mapping[str, list[Candidate]],
    imatrix: Imatrix,
    chunks: Chunks,
    workers: Workers,
    folder: Path,
    on_group: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, float]:
    """Return what a unit of weighted error costs, in nats per token, by group.

    Each group is rounded to nearest in a file of its own; a few of them at a time are read beside the source.

    Args:
        header: of the 16-bit source.
        found: the errors of each tensor's types.
        imatrix: of its inputs.
        chunks: what both read.
        workers: threads to round with, and as many for llama.cpp.
        folder: where the files lie meanwhile: `N_AT_ONCE`, about as large as the source.
        on_group: hears how many groups are done, and how many there are.

    Raises:
        LocalLLMError: as `quantize` and `compare`.
    """
    group_by_name = groups_of(header)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in found:
        groups[group_by_name[name]].append(name)
    costs: dict[str, float] = {}
    for stale in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with Model(header.path) as reference, TemporaryDirectory(dir=folder, prefix=_PREFIX) as place:
        for some in _batched(groups, N_AT_ONCE):
            probes = {group: {name: _probe(found[name]) for name in groups[group]} for group in some}
            paths = [_rounded(header, Path(place) / f"{group}.gguf", probes[group], imatrix, workers) for group in some]
            for group, divergence in zip(some, _divergences(reference, paths, chunks, workers.n_threads), strict=True):
                error = sum(probe.error for probe in probes[group].values())
                costs[group] = max(divergence, 0.0) / error if error else 0.0
            for path in paths:
                path.unlink()
            on_group(len(costs), len(groups))
    return costs


def _divergences(reference: Model, paths: Sequence[Path], chunks: Chunks, n_threads: int) -> list[float]:
    """Return the mean divergence of each file from the reference, in nats per token."""
    with ExitStack() as stack:
        others = [Subject(stack.enter_context(Model(path)), n_threads=n_threads) for path in paths]
        found = compare(Subject(reference, n_threads=n_threads), others, chunks)
    return [other.divergence.kl.value for other in found.others if other.divergence is not None]


def _batched(items: Iterable[str], n: int) -> Iterator[list[str]]:
    """Yield the items in lists of `n`; the last may be shorter."""
    left = list(items)
    for start in range(0, len(left), n):
        yield left[start : start + n]


def _probe(choices: list[Candidate]) -> Candidate:
    """Return the smallest type of at least `PROBE_BITS`, or the largest."""
    by_size = sorted(choices, key=lambda choice: choice.n_bytes)
    fine = [choice for choice in by_size if 8 * choice.kind.block_bytes / choice.kind.block_size >= PROBE_BITS]
    return (fine or by_size[-1:])[0]


def _rounded(
    header: GGUFHeader, path: Path, probes: Mapping[str, Candidate], imatrix: Imatrix, workers: Workers
) -> Path:
    """Make a file in which these tensors are rounded, and return its path."""
    ordered = sorted(header.tensors, key=file_order)
    types = {tensor.name: probes[tensor.name].kind if tensor.name in probes else tensor.type for tensor in ordered}
    quantize(header, path, Mix(file_type("F16"), types), Rtn(workers, imatrix))
    return path
