"""`localllm quantize`: make a model smaller."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.calibration import N_KL_CHUNKS, memory_bytes
from localllm.cli.numbers import json_text
from localllm.cli.options import thread_options
from localllm.cli.output_files import STDOUT, show_report
from localllm.cli.quantize_report import Reporter, check_report, write_report
from localllm.cli.quantizing import QuantizingStatus, warn_of_types
from localllm.cli.screen import notice
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import duration, size, table
from localllm.config import load_settings
from localllm.errors import RequestError
from localllm.setting_values import parse_size
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.cli.files_report import FilesReport
    from localllm.gguf import GGMLType, GGUFHeader
    from localllm.quantize import Mix, MixOptions, Quantized
    from localllm.workshop import Budget, QuantizeRequest

METHODS = ("gptq", "rtn", "awq", "awq+gptq")
_FILE = click.Path(path_type=Path)


@click.command("quantize", short_help="Make a model smaller.")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="OUT", type=_FILE)
@click.option("--type", "type_name", metavar="TYPE", default="Q4_K_M", show_default=True, help="The file type to make.")
@click.option(
    "--target-size", metavar="SIZE", help="Make a file of at most this size, such as 1.2GB, instead of a type."
)
@click.option(
    "--target-bpw", metavar="N", type=float, help="Make a file of at most so many bits per weight, such as 4.25."
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default=METHODS[0],
    show_default=True,
    help="gptq makes up for each weight's error in the next ones, after a calibration; rtn rounds each to the nearest "
    "value, as llama.cpp does; awq first scales the channels that matter, with nothing changed before rounding; "
    "awq+gptq does that and makes up for errors.",
)
@click.option(
    "--calibration",
    "files",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Calibrate with this text; may be repeated. Without, with the mix that comes with the program.",
)
@click.option("--chunks", "n_chunks", metavar="N", type=int, help="How many chunks of 512 tokens to read at most.")
@click.option(
    "--moments", metavar="DIR", type=_FILE, help="Keep the calibration there; one that is there is used as it is."
)
@click.option(
    "--kl-aware",
    is_flag=True,
    help="Calibrate with the gradients of the predictions, too: the file is closer to SRC, and takes longer to make.",
)
@click.option("--memory", metavar="SIZE", help="What the calibration may take, such as 8GB.")
@click.option(
    "--imatrix",
    "imatrix_file",
    metavar="FILE",
    type=_FILE,
    help="An importance matrix, GGUF or .dat: what the columns of each matrix weigh.",
)
@click.option(
    "--tensor-type",
    "tensor_types",
    metavar="REGEX=TYPE",
    multiple=True,
    help="The type of tensors in whose name the expression is found; may be repeated, and the first one counts.",
)
@click.option("--output-tensor-type", "output_type", metavar="TYPE", help="The type of the output layer.")
@click.option("--token-embedding-type", "embedding_type", metavar="TYPE", help="The type of the token embedding.")
@click.option("--pure", "is_pure", is_flag=True, help="One type for all tensors, without the file type's rules.")
@click.option("--allow-requantize", is_flag=True, help="Take a source that is quantized already; this loses quality.")
@click.option("--force", "may_replace", is_flag=True, help="Replace OUT if it is there.")
@click.option(
    "--report",
    metavar="[FILE]",
    is_flag=False,
    flag_value=STDOUT,
    help="Measure what was made against SRC, print it, and write it to FILE (.md or .json), if one is named.",
)
@click.option("--dry-run", is_flag=True, help="Print which type each tensor would get, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
@thread_options
def command(
    source: str,
    target: Path,
    type_name: str,
    target_size: str | None,
    target_bpw: float | None,
    method: str,
    files: tuple[Path, ...],
    n_chunks: int | None,
    moments: Path | None,
    kl_aware: bool,
    memory: str | None,
    imatrix_file: Path | None,
    tensor_types: tuple[str, ...],
    output_type: str | None,
    embedding_type: str | None,
    is_pure: bool,
    allow_requantize: bool,
    may_replace: bool,
    report: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Make a quantized GGUF file, which any llama.cpp loads, of a 16-bit one or of a Hugging Face folder.

    File types: Q2_K, Q2_K_S, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, Q4_0, Q4_1, Q5_0, Q5_1,
    Q8_0, IQ4_NL, IQ4_XS, F16, BF16. Each tensor's type follows from them by llama.cpp's rules.

    \b
    localllm quantize model-F16.gguf model-Q4_K_M.gguf
    localllm quantize ./SmolLM2-135M-Instruct smollm2-Q4_K_M.gguf --method awq+gptq --kl-aware
    localllm quantize model-F16.gguf small.gguf --type Q3_K_M --tensor-type 'ffn_down=Q4_K'
    """
    if kl_aware and "gptq" not in method:
        raise RequestError(f"--kl-aware is for error feedback, and --method {method} has none.", hint="Use awq+gptq.")
    settings = load_settings(flags)
    path = Path(source) if Path(source).is_dir() else resolve(source)
    from localllm.workshop import CalibrationRequest, QuantizeRequest

    request = QuantizeRequest(
        type_name,
        method,
        _mix_options(tensor_types, output_type, embedding_type, is_pure),
        imatrix_file,
        CalibrationRequest(
            files,
            n_chunks=n_chunks,
            moments=moments,
            n_kl_chunks=N_KL_CHUNKS if kl_aware else 0,
            memory_bytes=memory_bytes(memory),
        ),
        allow_requantize,
        may_replace,
        settings.threads,
        _budget(target_size, target_bpw),
    )
    if dry_run:
        _show_plan(path, request)
        return
    check_report(report)
    watcher = QuantizingStatus(StatusLine(LOG_EVERY_S))
    try:
        made, found = _make(path, target, request, report, watcher)
    finally:
        watcher.status.clear()
    if as_json:
        click.echo(_json(made, watcher.mix, method, found))
    else:
        notice(f"{made.path.name}: {size(made.n_bytes)}, {made.bpw:.2f} bits per weight, in {duration(made.elapsed_s)}")
    if found is not None and report is not None:
        if not as_json:
            show_report(found, None)
        write_report(found, report)


def _make(
    source: Path, target: Path, request: QuantizeRequest, report: str | None, watcher: QuantizingStatus
) -> tuple[Quantized, FilesReport | None]:
    from localllm.workshop import MeasureRequest, as_gguf, quantize_file

    with as_gguf(source, target, watcher, may_replace=request.may_replace) as path:
        reporter = None if report is None else Reporter(path, MeasureRequest(n_threads=request.n_threads), watcher)
        made = quantize_file(path, target, request, watcher)
        return made, None if reporter is None else reporter.measure(made, request.method)


def _show_plan(source: Path, request: QuantizeRequest) -> None:
    from localllm.workshop.quantization import plan_quantization

    if request.budget is not None:
        raise RequestError("Types for a size are only known once they have been measured.", hint="Leave --dry-run out.")
    if source.is_dir():
        raise RequestError("--dry-run reads a GGUF file; SRC is a folder.", hint="Convert it: localllm convert.")
    header, mix, without = plan_quantization(source, request)
    warn_of_types(mix, header, without)
    click.echo("\n".join(_plan_lines(header, mix)))


def _budget(target_size: str | None, target_bpw: float | None) -> Budget | None:
    from localllm.workshop import Budget

    if target_size is not None and target_bpw is not None:
        raise RequestError("--target-size and --target-bpw are two sizes.", hint="Leave one of them out.")
    if target_bpw is not None and not 1 <= target_bpw <= 16:
        raise RequestError(f"--target-bpw is {target_bpw:g}; it must be from 1 to 16.", hint="Such as 4.25.")
    if target_size is None:
        return None if target_bpw is None else Budget(bpw=target_bpw)
    try:
        return Budget(n_bytes=parse_size(target_size))
    except ValueError as error:
        raise RequestError(f"--target-size is {target_size!r}; it must be {error}.", hint="Such as 1.2GB.") from error


def _mix_options(
    tensor_types: Sequence[str], output_type: str | None, embedding_type: str | None, is_pure: bool
) -> MixOptions:
    from localllm.llama.encoding import encodable_type
    from localllm.quantize import MixOptions

    return MixOptions(
        tensor_types=tuple(map(_tensor_type, tensor_types)),
        output_type=None if output_type is None else encodable_type(output_type),
        embedding_type=None if embedding_type is None else encodable_type(embedding_type),
        is_pure=is_pure,
    )


def _tensor_type(text: str) -> tuple[re.Pattern[str], GGMLType]:
    from localllm.llama.encoding import encodable_type

    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern:
        raise RequestError(f"--tensor-type is {text!r}; it must be REGEX=TYPE.", hint="Such as ffn_down=Q6_K.")
    try:
        return re.compile(pattern), encodable_type(name)
    except re.error as error:
        raise RequestError(f"--tensor-type has no regular expression: {error}.", hint=f"Check {pattern!r}.") from error


def _plan_lines(header: GGUFHeader, mix: Mix) -> Iterator[str]:
    from localllm.gguf import printable

    tensors = {tensor.name: tensor for tensor in header.tensors}
    rows = [("name", "from", "to", "size")]
    for name, kind in mix.types.items():
        n_bytes = kind.n_bytes(tensors[name].n_params)
        rows.append((printable(name), tensors[name].type.name.upper(), kind.name.upper(), size(n_bytes)))
    rows.append(("all", size(sum(tensor.n_bytes for tensor in header.tensors)), "", size(mix.n_bytes(header))))
    yield from table(rows, right=(3,))


def _json(made: Quantized, mix: Mix, method: str, found: FilesReport | None) -> str:
    return json_text(
        {
            "path": str(made.path),
            "type": mix.file_type.name,
            "method": method,
            "n_bytes": made.n_bytes,
            "n_params": made.n_params,
            "bpw": made.bpw,
            "elapsed_s": made.elapsed_s,
            "tensor_types": dict(Counter(kind.name for kind in mix.types.values())),
            **({} if found is None else {"report": found.fields()}),
        }
    )
