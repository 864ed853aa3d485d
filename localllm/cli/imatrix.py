"""`localllm imatrix`: what a model's weights are multiplied by, measured over a text, for quantizing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.options import machine_options
from localllm.cli.screen import notice
from localllm.cli.status import StatusLine
from localllm.config import load_settings, parse_size
from localllm.errors import RequestError, UnsupportedModel
from localllm.hardware.types import LoadOptions
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.calibrate import Chunks, Document, Progress
    from localllm.gguf import ModelShape
    from localllm.hardware.types import LoadPlan
    from localllm.llama import Model
    from localllm.quantize.imatrix import Imatrix

N_SELF_CHUNKS = 64
"""How many chunks a model draws if nobody says."""
MEMORY_SHARE = 0.75
"""Of the free memory, what is taken if nobody says."""

_FILE = click.Path(path_type=Path)


@click.command("imatrix", short_help="Measure what a model's weights are multiplied by, for quantizing it.")
@click.argument("model")
@click.argument("out", type=_FILE)
@click.option(
    "--calibration", "files", metavar="FILE", type=_FILE, multiple=True, help="Read this text; may be repeated."
)
@click.option("--self", "from_self", is_flag=True, help="Read text that the model draws itself.")
@click.option("--chunks", "n_chunks", metavar="N", type=int, help="How many chunks of the text at most.")
@click.option("--n-ctx", metavar="N", default=512, show_default=True, type=int, help="Tokens of a chunk.")
@click.option(
    "--moments", metavar="DIR", type=_FILE, help="Also measure how columns go together (H = X'X), one file an input."
)
@click.option("--memory", metavar="SIZE", help="What all may take, such as 8GB; three quarters of what is free.")
@click.option("--process-output", is_flag=True, help="Measure the output layer, too.")
@click.option("--seed", metavar="N", default=0, show_default=True, type=int, help="Of --self.")
@click.option("--force", "may_replace", is_flag=True, help="Replace OUT if it is there.")
@machine_options
def command(
    model: str,
    out: Path,
    files: tuple[Path, ...],
    from_self: bool,
    n_chunks: int | None,
    n_ctx: int,
    moments: Path | None,
    memory: str | None,
    process_output: bool,
    seed: int,
    may_replace: bool,
    **flags: str | None,
) -> None:
    """Read a text with MODEL and write an importance matrix to OUT, which `localllm quantize` and llama.cpp read.

    Without --calibration and --self, the text is one that comes with the program: prose, documentation, code, several
    languages, and conversations in the model's own template. A run that was stopped goes on where it was when the same
    is asked for again; with --moments, each H that was finished is kept. `localllm calibrate` is another name of this.

    \b
    localllm imatrix model-F16.gguf model.imatrix.gguf
    localllm imatrix model-F16.gguf model.imatrix.gguf --calibration wiki.txt --calibration code.py
    localllm imatrix model-F16.gguf model.imatrix.gguf --moments model.moments --memory 8GB
    """
    if files and from_self:
        raise RequestError("--calibration and --self are two texts to choose from.", hint="Leave one of them out.")
    settings = load_settings({**flags, "model": model})
    memory_bytes = _memory_bytes(memory)
    from localllm.calibrate import CalibrationOptions, calibrate
    from localllm.runtime.loading import load_model, plan_model

    options = LoadOptions(
        n_ctx=n_ctx, gpu_layers=settings.gpu_layers, n_threads=settings.threads, n_slots=1, n_batch=512
    )
    path = resolve(settings.model)
    _check_target(path, out, may_replace=may_replace)
    shape, plan = plan_model(path, options)
    if shape.is_encoder:
        raise UnsupportedModel(f"{path.name} makes no text.", hint="Choose a model that continues text.")
    status = StatusLine()
    try:
        with load_model(path, plan.n_gpu_layers, status.loading) as loaded:
            if from_self:
                chunks = _drawn(loaded, n_ctx, N_SELF_CHUNKS if n_chunks is None else n_chunks, plan, seed, status)
            else:
                chunks = _read(loaded, files, n_ctx, n_chunks)
            wanted = CalibrationOptions(
                plan.n_threads, memory_bytes, moments, process_output, stops_early=_cpu_computes_all(plan)
            )
            imatrix = calibrate(loaded, shape, chunks, out, wanted, lambda done: status.show(_progress(done)))
    finally:
        status.clear()
    _summarize(imatrix, chunks, n_chunks, shape)


def _check_target(model: Path, out: Path, *, may_replace: bool) -> None:
    if not out.exists():
        return
    if out.samefile(model):
        raise RequestError(f"{out} is the model itself.", hint="Write to another file.")
    if not may_replace:
        raise RequestError(f"{out} is there already.", hint="Write to another file, or replace it with --force.")


def _memory_bytes(memory: str | None) -> int:
    from localllm.hardware import available_ram_bytes

    if memory is None:
        return int(MEMORY_SHARE * available_ram_bytes())
    try:
        return parse_size(memory)
    except ValueError as error:
        raise RequestError(f"--memory is {memory!r}; it must be {error}.", hint="Such as --memory 8GB.") from error


def _cpu_computes_all(plan: LoadPlan) -> bool:
    """Whether the graph can be left unfinished. With a GPU at hand, llama.cpp may use it even for layers on the CPU."""
    from localllm.llama import list_devices

    return plan.n_gpu_layers == 0 and all(device.kind == "cpu" for device in list_devices())


def _drawn(model: Model, n_ctx: int, n_chunks: int, plan: LoadPlan, seed: int, status: StatusLine) -> Chunks:
    from localllm.calibrate import sample_chunks

    return sample_chunks(
        model,
        n_ctx,
        n_chunks,
        plan.n_threads,
        seed,
        lambda n_done, n_total: status.show(f"drawing text {n_done} of {n_total}"),
    )


def _read(model: Model, files: tuple[Path, ...], n_ctx: int, n_chunks: int | None) -> Chunks:
    from localllm.calibrate import cut, default_documents, read_documents

    documents = read_documents(files) if files else [*default_documents(), _conversations(model)]
    return cut(documents, model.vocab, n_ctx, n_chunks)


def _conversations(model: Model) -> Document:
    """Return the default mix's conversations as the model knows them; a model without a template gets plain text."""
    from localllm.calibrate import Document, default_chats
    from localllm.chat.template import ChatTemplate

    source, vocab = model.chat_template(), model.vocab
    if source is None:
        turns = (f"{message['role'].title()}: {message['content']}" for chat in default_chats() for message in chat)
        return Document("chats", "\n\n".join(turns))
    bos, eos = (vocab.text(token) if token is not None else "" for token in (vocab.bos, vocab.eos))
    template = ChatTemplate(source, bos_text=bos, eos_text=eos, fallback=True)
    texts = [template.render(chat, add_generation_prompt=False) for chat in default_chats()]
    return Document("chats", "".join(texts), has_specials=not template.is_fallback)


def _progress(done: Progress) -> str:
    left = done.left_s
    rest = f"{left / 3600:.1f} h" if left >= 5400 else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"chunk {done.n_done} of {done.n_total}, {rest} left"


def _summarize(imatrix: Imatrix, chunks: Chunks, n_chunks: int | None, shape: ModelShape) -> None:
    if n_chunks is not None and chunks.n_chunks < n_chunks:
        notice(f"The text has {chunks.n_chunks} chunks of {chunks.n_ctx} tokens, not {n_chunks}.")
    unseen = sum(int((entry.counts == 0).sum()) for entry in imatrix.entries.values())
    if unseen:
        notice(f"{unseen} experts' matrices saw no token; they count as uniform. Read more text, or other text.")
    notice(
        f"{len(imatrix.entries)} tensors · {chunks.n_chunks} chunks of {chunks.n_ctx} tokens · {shape.n_layer} layers"
    )
