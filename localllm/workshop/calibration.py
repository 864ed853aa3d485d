"""Calibrating a model's file: planned and loaded as for use, read with its own template, measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from localllm.calibrate import (
    GRADIENTS,
    CalibrationOptions,
    Chunks,
    Document,
    KlAwareOptions,
    Progress,
    calibrate,
    collect_gradients,
    cut,
    default_chats,
    default_documents,
    read_documents,
    sample_chunks,
)
from localllm.chat.template import ChatTemplate
from localllm.gguf import ModelShape, read_header
from localllm.gradients import Decoder, GradientProgress
from localllm.hardware import available_ram_bytes
from localllm.hardware.types import LoadPlan
from localllm.llama import Model, list_devices
from localllm.quantize import Imatrix
from localllm.runtime.loading import load_model, plan_reader

N_SELF_CHUNKS = 64
"""How many chunks a model draws if nobody says."""
MEMORY_SHARE = 0.75
"""Of the free memory, what is taken if nobody says."""


@dataclass(frozen=True)
class CalibrationRequest:
    """What to calibrate with."""

    files: tuple[Path, ...] = ()
    """Texts; none: the mix that comes with the program."""
    from_self: bool = False
    """Text that the model draws itself, instead."""
    n_chunks: int | None = None
    """How many at most."""
    n_ctx: int = 512
    """Tokens of a chunk."""
    seed: int = 0
    """Of text that the model draws."""
    moments: Path | None = None
    """The folder for second moments; None collects none."""
    may_replace_moments: bool = False
    """Delete what the folder holds of another model or text."""
    n_kl_chunks: int = 0
    """Chunks for the gradients of the model's predictions, which are written into the folder, too; 0: none are."""
    memory_bytes: int | None = None
    """What all may take; None: three quarters of what is free."""
    with_output: bool = False
    """Measure the output layer, too."""
    gpu_layers: int | Literal["auto", "all"] = "auto"
    n_threads: int | None = None


@dataclass(frozen=True)
class Calibration:
    """What was found, with what, in which model."""

    imatrix: Imatrix
    chunks: Chunks
    shape: ModelShape


class CalibrationWatcher(Protocol):
    """Hears of the progress; what it raises ends the work."""

    def loading(self, share: float) -> None:
        """So much of the model is loaded, 0 to 1."""

    def drawing(self, n_done: int, n_total: int) -> None:
        """So many chunks have been drawn."""

    def reading(self, progress: Progress) -> None:
        """So many chunks have been read."""

    def differentiating(self, progress: GradientProgress) -> None:
        """So far are the gradients."""


def calibrate_file(path: Path, out: Path, request: CalibrationRequest, watcher: CalibrationWatcher) -> Calibration:
    """Read a text with a model and write its importance matrix to `out`.

    Raises:
        LocalLLMError: as `open_text`, `calibrate` and `collect_gradients`.
    """
    if request.n_kl_chunks:
        # What has no gradients is refused before the work.
        Decoder(read_header(path), request.n_ctx)
    memory_bytes = request.memory_bytes or int(MEMORY_SHARE * available_ram_bytes())
    with open_text(path, request, watcher) as text:
        wanted = CalibrationOptions(
            text.plan.n_threads,
            memory_bytes,
            request.moments,
            may_replace_moments=request.may_replace_moments,
            with_output=request.with_output,
            stops_early=text.cpu_computes_all,
        )
        imatrix = calibrate(text.model, text.shape, text.chunks, out, wanted, watcher.reading)
        found = Calibration(imatrix, text.chunks, text.shape)
        n_threads = text.plan.n_threads
    if request.moments is not None and request.n_kl_chunks:
        some = replace(found.chunks, tokens=found.chunks.tokens[: request.n_kl_chunks])
        options = KlAwareOptions(n_threads, memory_bytes, may_replace=request.may_replace_moments)
        collect_gradients(read_header(path), some, request.moments / GRADIENTS, options, watcher.differentiating)
    return found


def read_chunks(path: Path, request: CalibrationRequest, watcher: CalibrationWatcher) -> Chunks:
    """Return the text that a calibration would read.

    Raises:
        LocalLLMError: as `open_text`.
    """
    with open_text(path, request, watcher) as text:
        return text.chunks


@dataclass(frozen=True)
class OpenText:
    """A model in memory, and the text that it is to read."""

    model: Model
    shape: ModelShape
    plan: LoadPlan
    chunks: Chunks

    @property
    def cpu_computes_all(self) -> bool:
        """Whether the graph can be left unfinished; a GPU at hand may compute even layers on the CPU."""
        return self.plan.n_gpu_layers == 0 and all(device.kind == "cpu" for device in list_devices())


@contextmanager
def open_text(path: Path, request: CalibrationRequest, watcher: CalibrationWatcher) -> Iterator[OpenText]:
    """Load a model, and cut its text; the model is closed in the end.

    Raises:
        LocalLLMError: as `plan_reader`, `read_documents` and `cut`.
    """
    shape, plan = plan_reader(path, request.n_ctx, gpu_layers=request.gpu_layers, n_threads=request.n_threads)
    with load_model(path, plan.n_gpu_layers, watcher.loading) as model:
        yield OpenText(model, shape, plan, _chunks(model, request, plan, watcher))


def _chunks(model: Model, request: CalibrationRequest, plan: LoadPlan, watcher: CalibrationWatcher) -> Chunks:
    if request.from_self:
        n_chunks = N_SELF_CHUNKS if request.n_chunks is None else request.n_chunks
        return sample_chunks(model, request.n_ctx, n_chunks, plan.n_threads, request.seed, watcher.drawing)
    documents = read_documents(request.files) if request.files else [*default_documents(), _conversations(model)]
    return cut(documents, model.vocab, request.n_ctx, request.n_chunks)


def _conversations(model: Model) -> Document:
    """Return the default mix's conversations as the model knows them; a model without a template gets plain text."""
    source, vocab = model.chat_template(), model.vocab
    if source is None:
        turns = (f"{message['role'].title()}: {message['content']}" for chat in default_chats() for message in chat)
        return Document("chats", "\n\n".join(turns))
    bos, eos = (vocab.text(token) if token is not None else "" for token in (vocab.bos, vocab.eos))
    template = ChatTemplate(source, bos_text=bos, eos_text=eos, fallback=True)
    texts = [template.render(chat, add_generation_prompt=False) for chat in default_chats()]
    return Document("chats", "".join(texts), has_specials=not template.is_fallback)
