"""`localllm bench`: a model's file types beside each other: size, quality, speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.calibration import memory_bytes
from localllm.cli.options import machine_options
from localllm.cli.output_files import check_writable, show_report, write_result
from localllm.cli.plot_file import check_plot, write_plot
from localllm.cli.quantize import METHODS
from localllm.cli.quantizing import QuantizingStatus
from localllm.cli.remote_flags import allow_only, refuse_for_local
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.config import load_settings
from localllm.errors import RequestError
from localllm.hub.refs import remote_ref
from localllm.store import resolve

if TYPE_CHECKING:
    pass

_FILE = click.Path(path_type=Path)


@click.command("bench", short_help="Compare a model's file types: size, quality, speed.")
@click.argument("model")
@click.argument("more_types", metavar="[TYPE]...", nargs=-1)
@click.option(
    "--types",
    "types",
    metavar="TYPE[,TYPE]",
    multiple=True,
    help="File types to make of MODEL, which must be a 16-bit file, and to measure; those after MODEL count, too.",
)
@click.option("--file", "files", metavar="REF", multiple=True, help="Another file of the model; may be repeated.")
@click.option("--reference", metavar="REF", help="Measure the divergence from this model instead of MODEL.")
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True, help="As of quantize.")
@click.option(
    "--calibration", "calibration", metavar="FILE", type=_FILE, multiple=True, help="As of quantize; may be repeated."
)
@click.option("--moments", metavar="DIR", type=_FILE, help="Keep the calibration there; one that is there is used.")
@click.option("--memory", metavar="SIZE", help="What the calibration may take, such as 8GB.")
@click.option("--out", metavar="DIR", type=_FILE, help="Keep what is made there.")
@click.option("--force", "may_replace", is_flag=True, help="Replace files in --out.")
@click.option(
    "--text", "texts", metavar="FILE", type=_FILE, multiple=True, help="Measure on this text; may be repeated."
)
@click.option("--n-ctx", metavar="N", default=512, show_default=True, type=int, help="Tokens of a chunk.")
@click.option(
    "--chunks", "n_chunks", metavar="N", default=12, show_default=True, type=int, help="Of each text, at most."
)
@click.option("--clients", metavar="N[,N]", default="1,4,8", show_default=True, help="Of a remote: how many at once.")
@click.option(
    "--max-tokens", metavar="N", default=64, show_default=True, type=int, help="Of a remote: tokens of an answer."
)
@click.option("--no-speed", is_flag=True, help="Leave the speed out.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(), help="Write everything as JSON; - is stdout.")
@click.option("--markdown", metavar="FILE", type=_FILE, help="Write the table as Markdown.")
@click.option("--plot", metavar="FILE", type=_FILE, help="Plot size against divergence: .svg, or .png.")
@machine_options
def command(
    model: str,
    more_types: tuple[str, ...],
    types: tuple[str, ...],
    files: tuple[str, ...],
    reference: str | None,
    method: str,
    calibration: tuple[Path, ...],
    moments: Path | None,
    memory: str | None,
    out: Path | None,
    may_replace: bool,
    texts: tuple[Path, ...],
    n_ctx: int,
    n_chunks: int,
    clients: str,
    max_tokens: int,
    no_speed: bool,
    json_file: str | None,
    markdown: Path | None,
    plot: Path | None,
    **flags: str | None,
) -> None:
    """Measure what file types do to MODEL: bytes, perplexity, divergence from MODEL, tokens a second.

    Each type is quantized for the moment, with one calibration for all, or kept with --out. All files then read the
    text of `localllm eval` side by side, and are timed in turns. Without types, MODEL and each --file are measured.
    Of a remote, such as @lab, the speed is measured that one client sees, and several at once.

    \b
    localllm bench model-F16.gguf --types Q4_K_M Q3_K_M Q2_K --plot sizes.svg
    localllm bench model-F16.gguf --types Q4_K_M --file downloaded-Q4_K_M.gguf --text my-notes.txt
    localllm bench model-Q4_K_M.gguf --reference model-F16.gguf
    localllm bench @lab --clients 1,4,16
    """
    context = click.get_current_context()
    if remote := remote_ref(model):
        allow_only(context, model, {"model", "texts", "clients", "max_tokens", "json_file"})
        check_writable(json_file, "--json")
        from localllm.cli.bench_remote import bench_remote

        bench_remote(remote, texts, clients, max_tokens, json_file)
        return
    refuse_for_local(context, ("clients", "max_tokens"))
    settings = load_settings({**flags, "model": model})
    wanted = _split(types, more_types)
    check_writable(json_file, "--json")
    check_writable(markdown, "--markdown")
    check_plot(plot)
    if plot is not None and not (wanted or files or reference):
        raise RequestError("A plot of divergence needs other files than MODEL.", hint="Add --types or --file.")
    from localllm.cli.files_report import FilesReport
    from localllm.workshop import BenchRequest, CalibrationRequest, MeasureRequest, bench_file

    gpu_layers, n_threads = settings.gpu_layers, settings.threads
    request = BenchRequest(
        wanted,
        method,
        CalibrationRequest(
            calibration,
            moments=moments,
            memory_bytes=memory_bytes(memory),
            gpu_layers=gpu_layers,
            n_threads=n_threads,
        ),
        tuple(map(resolve, files)),
        None if reference is None else resolve(reference),
        out,
        may_replace,
        MeasureRequest(texts, n_ctx, n_chunks, gpu_layers, n_threads, has_speed=not no_speed),
    )
    watcher = QuantizingStatus(StatusLine(LOG_EVERY_S))
    try:
        found = bench_file(resolve(settings.model), request, watcher)
    finally:
        watcher.status.clear()
    report = FilesReport(found.measurements, found.made, method if found.made else None)
    show_report(report, json_file)
    if markdown is not None:
        write_result(markdown, report.markdown())
    if plot is not None:
        write_plot(plot, report.plot())


def _split(types: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return the types that are named, in their order: "Q4_K_M,Q2_K", or one by one."""
    return tuple(name for text in (*types, *more) for name in text.replace(",", " ").split())
