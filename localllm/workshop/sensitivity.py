"""How much a model minds errors in its parts: each group of tensors rounded coarsely, the rest left as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from localllm.evaluate import Chunks, Subject, compare
from localllm.gguf import GGMLType, GGUFHeader
from localllm.llama import Model
from localllm.quantize import Imatrix, Mix, Rtn, Workers, file_type, quantize
from localllm.quantize.allocation import Candidate, group_of
from localllm.quantize.categories import file_order, layer_of

PROBE_BITS = 4.0
"""Groups are rounded to the type next above so many bits per weight: errors that are felt, and still small."""


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

    One group after the other is rounded to nearest in a file of its own, which is read beside the source.

    Args:
        header: of the 16-bit source.
        found: the errors of each tensor's types.
        imatrix: of its inputs.
        chunks: what both read.
        workers: threads to round with, and as many for llama.cpp.
        folder: where the files lie meanwhile; one of the source's size at a time.
        on_group: hears how many groups are done, and how many there are.

    Raises:
        LocalLLMError: as `quantize` and `compare`.
    """
    n_layer = 1 + max(map(layer_of, found), default=0)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in found:
        groups[group_of(name, n_layer)].append(name)
    costs = {}
    with Model(header.path) as reference, TemporaryDirectory(dir=folder, prefix=".sensitivity-") as place:
        base = Subject(reference, n_threads=workers.n_threads)
        for n_done, (group, names) in enumerate(groups.items(), 1):
            probes = {name: _probe(found[name]) for name in names}
            path = Path(place) / "probe.gguf"
            _round(header, path, {name: probe.kind for name, probe in probes.items()}, imatrix, workers)
            with Model(path) as model:
                other = compare(base, [Subject(model, n_threads=workers.n_threads)], chunks).others[0]
            assert other.divergence is not None
            error = sum(probe.error for probe in probes.values())
            costs[group] = max(other.divergence.kl.value, 0.0) / error if error else 0.0
            path.unlink()
            on_group(n_done, len(groups))
    return costs


def _probe(choices: list[Candidate]) -> Candidate:
    """Return the smallest type of at least `PROBE_BITS`, or the largest."""
    by_size = sorted(choices, key=lambda choice: choice.n_bytes)
    fine = [choice for choice in by_size if 8 * choice.kind.block_bytes / choice.kind.block_size >= PROBE_BITS]
    return (fine or by_size[-1:])[0]


def _round(header: GGUFHeader, path: Path, kinds: Mapping[str, GGMLType], imatrix: Imatrix, workers: Workers) -> None:
    types = {tensor.name: kinds.get(tensor.name, tensor.type) for tensor in sorted(header.tensors, key=file_order)}
    quantize(header, path, Mix(file_type("F16"), types), Rtn(workers, imatrix))
