"""Measuring files of one model beside each other: size, perplexity, divergence from the first, speed.

All are open at once where memory allows it. Where it does not, they take turns in groups, the reference in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

from localllm.errors import RequestError
from localllm.evaluate import Chunks, Evaluation, Subject, compare, default_text, read_text
from localllm.evaluate.memory import check_memory, lane_bytes
from localllm.evaluate.speed import Speed, measure_speed
from localllm.evaluate.text import DEFAULT_NAME
from localllm.evaluate.vocabulary import check_same_vocabulary
from localllm.gguf import ModelShape, read_header, summarize
from localllm.hardware import available_ram_bytes
from localllm.hardware.types import LoadPlan
from localllm.llama import Model, ModelParams
from localllm.runtime.loading import load_model, plan_reader

N_CHUNKS = 12
"""Of each text, if nobody says: 3,060 scored tokens, on which a KL divergence has a standard error of some 3 %."""
_KV_TYPES = ("f16", "f16")


@dataclass(frozen=True)
class MeasureRequest:
    """On what to measure, and how."""

    texts: tuple[Path, ...] = ()
    """None: the text that comes with the program."""
    n_ctx: int = 512
    """Tokens of a chunk."""
    n_chunks: int | None = N_CHUNKS
    """Of each text, at most; None is all there are."""
    gpu_layers: int | Literal["auto", "all"] = "auto"
    n_threads: int | None = None
    has_speed: bool = False
    """Measure tokens a second, too."""


@dataclass(frozen=True)
class MeasuredFile:
    """What was found of one file."""

    path: Path
    type_name: str
    """Of the file, such as "Q4_K_M"."""
    n_bytes: int
    """Of all parts of the file."""
    n_params: int
    evaluation: Evaluation
    speed: Speed | None

    @property
    def bpw(self) -> float:
        """Bits of the file, its header included, per weight."""
        return 8 * self.n_bytes / self.n_params


@dataclass(frozen=True)
class Measurements:
    """What was found, the reference first, and on what."""

    files: tuple[MeasuredFile, ...]
    text_names: tuple[str, ...]
    text_sha256: str
    """Of all texts, one after the other."""
    n_ctx: int
    n_chunks: int
    n_threads: int
    n_gpu_layers: int


class MeasureWatcher(Protocol):
    """Hears of the progress; what it raises ends the work."""

    def loading(self, share: float) -> None:
        """So much of a model is loaded, 0 to 1."""

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        """So far is what is being done."""


@dataclass(frozen=True)
class _Planned:
    """A file that can be measured, and how it will be loaded."""

    path: Path
    shape: ModelShape
    plan: LoadPlan

    def need_bytes(self, n_ctx: int) -> int:
        """Return what it takes to have it open."""
        return self.shape.weights_bytes + lane_bytes(self.shape, _KV_TYPES, n_ctx)


def check_files(paths: Sequence[Path], request: MeasureRequest) -> None:
    """Find out now what would make `measure_files` fail after other work, without reading weights.

    Raises:
        LocalLLMError: a file makes no text or does not fit, a text cannot be read, vocabularies differ.
    """
    reference, *others = [_plan(path, request) for path in dict.fromkeys(paths)]
    texts = _read_texts(request)
    vocab_only = ModelParams(vocab_only=True)
    with Model(reference.path, vocab_only) as model:
        _cut(texts, model, request)
        for other in others:
            with Model(other.path, vocab_only) as its_model:
                check_same_vocabulary(model, its_model)


def measure_files(paths: Sequence[Path], request: MeasureRequest, watcher: MeasureWatcher) -> Measurements:
    """Measure files of one model.

    Args:
        paths: the reference first. A file that is named twice is measured once.
        request: on what.
        watcher: hears of the progress.

    Raises:
        NotEnoughMemory: the reference and another do not fit together.
        LocalLLMError: as `plan_reader`, `read_text`, `Chunks.of_text` and `compare`.
    """
    reference, *others = [_plan(path, request) for path in dict.fromkeys(paths)]
    texts = _read_texts(request)
    found: dict[Path, MeasuredFile] = {}
    with _loaded(reference, watcher) as model:
        chunks = _cut(texts, model, request)
        for group in _groups(reference, others, request.n_ctx):
            with ExitStack() as stack:
                models = [model, *(stack.enter_context(_loaded(one, watcher)) for one in group)]
                for file in _measure_group([reference, *group], models, chunks, request, watcher):
                    found.setdefault(file.path, file)
    return Measurements(
        tuple(found.values()),
        tuple(texts),
        sha256("".join(texts.values()).encode()).hexdigest(),
        request.n_ctx,
        chunks.n_chunks,
        reference.plan.n_threads,
        reference.plan.n_gpu_layers,
    )


def _measure_group(
    group: Sequence[_Planned],
    models: Sequence[Model],
    chunks: Chunks,
    request: MeasureRequest,
    watcher: MeasureWatcher,
) -> Iterator[MeasuredFile]:
    subjects = [Subject(model, *_KV_TYPES, group[0].plan.n_threads) for model in models]
    compared = compare(
        subjects[0], subjects[1:], chunks, lambda done, total: watcher.measuring("reading the text: chunk", done, total)
    )
    speeds: Sequence[Speed | None] = [None] * len(group)
    if request.has_speed:
        tokens = [token for chunk in chunks.tokens for token in chunk]
        speeds = measure_speed(subjects, tokens, lambda done, total: watcher.measuring("timing: round", done, total))
    for one, evaluation, speed in zip(group, (compared.reference, *compared.others), speeds, strict=True):
        yield _measured(one.path, evaluation, speed)


def _measured(path: Path, evaluation: Evaluation, speed: Speed | None) -> MeasuredFile:
    summary = summarize(read_header(path))
    type_name = summary.file_type or summary.types[0].type.upper()
    return MeasuredFile(path, type_name, summary.n_bytes, summary.n_params, evaluation, speed)


def _plan(path: Path, request: MeasureRequest) -> _Planned:
    return _Planned(path, *plan_reader(path, request.n_ctx, gpu_layers=request.gpu_layers, n_threads=request.n_threads))


def _loaded(planned: _Planned, watcher: MeasureWatcher) -> Model:
    return load_model(planned.path, planned.plan.n_gpu_layers, watcher.loading)


def _groups(reference: _Planned, others: Sequence[_Planned], n_ctx: int) -> list[list[_Planned]]:
    """Return the files that are open at once beside the reference, as many as fit.

    Raises:
        NotEnoughMemory: the reference alone does not fit, or not with one of them.
    """
    if any(one.plan.n_gpu_layers for one in (reference, *others)):
        return [list(others)]
    free, own = available_ram_bytes(), reference.need_bytes(n_ctx)
    check_memory(own, 1, free)
    groups: list[list[_Planned]] = [[]]
    room = free - own
    for one in others:
        need = one.need_bytes(n_ctx)
        check_memory(own + need, 2, free)
        if need > room:
            groups.append([])
            room = free - own
        groups[-1].append(one)
        room -= need
    return groups


def _read_texts(request: MeasureRequest) -> dict[str, str]:
    """Return the texts by name."""
    if not request.texts:
        return {DEFAULT_NAME: default_text()}
    return {str(path): read_text(path) for path in request.texts}


def _cut(texts: dict[str, str], model: Model, request: MeasureRequest) -> Chunks:
    """Return the chunks of all texts, one text after the other."""
    tokens: list[tuple[int, ...]] = []
    for name, text in texts.items():
        try:
            tokens += Chunks.of_text(text, model.vocab, request.n_ctx, request.n_chunks).tokens
        except RequestError as error:
            raise RequestError(f"{name}: {error.message}", hint=error.hint) from error
    return Chunks(request.n_ctx, tuple(tokens))
