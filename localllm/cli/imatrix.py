"""`localllm imatrix`: what a model's weights are multiplied by, measured over a text, for quantizing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.calibration import N_KL_CHUNKS, CalibrationStatus, memory_bytes
from localllm.cli.options import machine_options
from localllm.cli.screen import notice
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.config import load_settings
from localllm.errors import RequestError
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.workshop import Calibration

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
@click.option(
    "--kl-aware", is_flag=True, help="Into --moments, also the gradients of the predictions, for better files; slow."
)
@click.option(
    "--kl-chunks",
    "n_kl_chunks",
    metavar="N",
    default=N_KL_CHUNKS,
    show_default=True,
    type=click.IntRange(1),
    help="How many chunks --kl-aware reads.",
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
    kl_aware: bool,
    n_kl_chunks: int,
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
    localllm imatrix model-F16.gguf model.imatrix.gguf --moments model.moments --kl-aware
    """
    if files and from_self:
        raise RequestError("--calibration and --self are two texts to choose from.", hint="Leave one of them out.")
    if kl_aware and moments is None:
        raise RequestError("--kl-aware writes into a folder of second moments.", hint="Give it with --moments DIR.")
    settings = load_settings({**flags, "model": model})
    from localllm.workshop import CalibrationRequest, calibrate_file

    request = CalibrationRequest(
        files=files,
        from_self=from_self,
        n_chunks=n_chunks,
        n_ctx=n_ctx,
        seed=seed,
        moments=moments,
        n_kl_chunks=n_kl_chunks if kl_aware else 0,
        memory_bytes=memory_bytes(memory),
        with_output=process_output,
        gpu_layers=settings.gpu_layers,
        n_threads=settings.threads,
    )
    path = resolve(settings.model)
    _check_target(path, out, may_replace=may_replace)
    watcher = CalibrationStatus(StatusLine(LOG_EVERY_S))
    try:
        found = calibrate_file(path, out, request, watcher)
    finally:
        watcher.status.clear()
    _summarize(found, n_chunks)


def _check_target(model: Path, out: Path, *, may_replace: bool) -> None:
    if not out.exists():
        return
    if out.samefile(model):
        raise RequestError(f"{out} is the model itself.", hint="Write to another file.")
    if not may_replace:
        raise RequestError(f"{out} is there already.", hint="Write to another file, or replace it with --force.")


def _summarize(found: Calibration, n_chunks: int | None) -> None:
    imatrix, chunks = found.imatrix, found.chunks
    if n_chunks is not None and chunks.n_chunks < n_chunks:
        notice(f"The text has {chunks.n_chunks} chunks of {chunks.n_ctx} tokens, not {n_chunks}.")
    unseen = sum(int((entry.counts == 0).sum()) for entry in imatrix.entries.values())
    if unseen:
        notice(f"{unseen} experts' matrices saw no token; they count as uniform. Read more text, or other text.")
    read = f"{chunks.n_chunks} chunks of {chunks.n_ctx} tokens"
    notice(f"{len(imatrix.entries)} tensors · {read} · {found.shape.n_layer} layers")
