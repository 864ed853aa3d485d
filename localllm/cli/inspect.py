"""`localllm inspect`: what happens inside a model while it reads."""

from __future__ import annotations

from pathlib import Path

import click

from localllm.cli.options import machine_options
from localllm.cli.output_files import check_writable, show_report
from localllm.cli.quantizing import QuantizingStatus
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.config import load_settings
from localllm.errors import RequestError
from localllm.store import resolve

_FILE = click.Path(path_type=Path)


@click.command("inspect", short_help="Look into a model while it reads: outlier activations.")
@click.argument("model")
@click.option("--outliers", is_flag=True, help="Find channels with outlier activations, and what 8 bits lose by them.")
@click.option("--q8-kld", is_flag=True, help="Make a Q8_0 file for the moment, and measure its divergence, too.")
@click.option(
    "--magnitude", metavar="X", default=6.0, show_default=True, type=float, help="What an outlier's size reaches."
)
@click.option("--text", "texts", metavar="FILE", type=_FILE, multiple=True, help="Read this text; may be repeated.")
@click.option("--n-ctx", metavar="N", default=512, show_default=True, type=int, help="Tokens of a chunk.")
@click.option("--chunks", "n_chunks", metavar="N", default=8, show_default=True, type=int, help="To read, at most.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(), help="Write everything as JSON; - is stdout.")
@machine_options
def command(
    model: str,
    outliers: bool,
    q8_kld: bool,
    magnitude: float,
    texts: tuple[Path, ...],
    n_ctx: int,
    n_chunks: int,
    json_file: str | None,
    **flags: str | None,
) -> None:
    """Read a text with MODEL and look at what its weights are multiplied by.

    With --outliers: a channel is an outlier where its absolute value reaches 6 in at least a quarter of the layers and
    in 6 % of the positions (Dettmers et al. 2022, LLM.int8()), each kind of input apart. Below, what 8 bits lose in
    each kind of product: with a scale for each block of 32 (Q8_0), and with one for each token, where outliers hurt.

    \b
    localllm inspect model-F16.gguf --outliers
    localllm inspect model-F16.gguf --outliers --q8-kld --text notes.txt
    """
    if not outliers:
        raise RequestError("Nothing to look for was named.", hint="Add --outliers.")
    settings = load_settings({**flags, "model": model})
    check_writable(json_file, "--json")
    from localllm.calibrate import OutlierRule
    from localllm.cli.inspect_report import InspectReport
    from localllm.workshop import CalibrationRequest, InspectRequest, MeasureRequest, inspect_file

    gpu_layers, n_threads = settings.gpu_layers, settings.threads
    request = InspectRequest(
        CalibrationRequest(texts, n_chunks=n_chunks, n_ctx=n_ctx, gpu_layers=gpu_layers, n_threads=n_threads),
        OutlierRule(magnitude),
        MeasureRequest(texts, n_ctx, gpu_layers=gpu_layers, n_threads=n_threads) if q8_kld else None,
    )
    watcher = QuantizingStatus(StatusLine(LOG_EVERY_S))
    try:
        found = inspect_file(resolve(settings.model), request, watcher)
    finally:
        watcher.status.clear()
    show_report(InspectReport(found), json_file)
