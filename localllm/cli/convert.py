"""`localllm convert`: a Hugging Face checkpoint, or a LoRA adapter, as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.screen import notice
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import size
from localllm.errors import RequestError
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.convert import Conversion, OutputType
    from localllm.convert.writer import OnProgress

TYPES = ("bf16", "f16", "f32", "q8_0")


@click.command("convert", short_help="Make a GGUF file of a Hugging Face checkpoint or a LoRA adapter.")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "output_type",
    type=click.Choice(TYPES),
    help="How matrices are stored; vectors, norms and routers are f32. bf16 unless told, of an adapter f32.",
)
@click.option(
    "--base",
    metavar="MODEL",
    help="The model that an adapter was trained for: a GGUF file, or a folder with config.json. Without, the folder "
    "that the adapter names.",
)
def command(source: Path, target: Path, output_type: OutputType | None, base: str | None) -> None:
    """Convert a folder with config.json, .safetensors files and a tokenizer to a GGUF file.

    A folder with adapter_config.json and adapter_model.safetensors, as PEFT saves it, becomes an adapter for --lora.
    Pickles (.bin, .pt) are refused, since they can run code. Little memory is needed, whatever the model's size.
    OUT.gguf appears when it is whole; one that is there already is replaced then. Its path is printed on stdout.

    \b
    localllm convert ./SmolLM2-135M-Instruct smollm2.gguf
    localllm convert ./all-MiniLM-L6-v2 minilm.gguf --type f32
    localllm convert ./my-adapter my-adapter.gguf --base smollm2.gguf
    """
    status = StatusLine(LOG_EVERY_S)
    try:
        made = _convert(
            source, target, output_type, base, lambda n_done, n_total: status.show(f"converting {n_done / n_total:.0%}")
        )
    finally:
        status.clear()
    for note in made.notes:
        notice(note)
    notice(f"{made.architecture}, {made.n_params:,} weights in {made.n_tensors} tensors, {size(made.n_bytes)}")
    click.echo(str(made.path))


def _convert(
    source: Path, target: Path, output_type: OutputType | None, base: str | None, on_progress: OnProgress
) -> Conversion:
    from localllm.convert import convert, convert_adapter, is_adapter

    if is_adapter(source):
        model = None if base is None else _model(base)
        return convert_adapter(source, target, model, output_type or "f32", on_progress)
    if base is not None:
        raise RequestError(
            f"--base is for adapters, and {source} holds no adapter_config.json, or a model's weights beside it.",
            hint="Leave --base out, or name the adapter's folder.",
        )
    return convert(source, target, output_type or "bf16", on_progress)


def _model(base: str) -> Path:
    """Return the folder, or the file of a model's name."""
    path = Path(base)
    return path if path.is_dir() else resolve(base)
