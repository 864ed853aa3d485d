"""`localllm convert`: a Hugging Face checkpoint as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.screen import notice
from localllm.cli.status import StatusLine
from localllm.cli.tables import size

if TYPE_CHECKING:
    from localllm.convert import OutputType

TYPES = ("bf16", "f16", "f32", "q8_0")


@click.command("convert", short_help="Make a GGUF file of a Hugging Face checkpoint.")
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "output_type",
    type=click.Choice(TYPES),
    default="bf16",
    show_default=True,
    help="How matrices are stored; vectors, norms and routers are f32.",
)
def command(source: Path, target: Path, output_type: OutputType) -> None:
    """Convert a folder with config.json, .safetensors files and a tokenizer to a GGUF file.

    Pickles (.bin, .pt) are refused, since they can run code. Little memory is needed, whatever the model's size.
    OUT.gguf appears when it is whole; one that is there already is replaced then. Its path is printed on stdout.

    \b
    localllm convert ./SmolLM2-135M-Instruct smollm2.gguf
    localllm convert ./all-MiniLM-L6-v2 minilm.gguf --type f32
    """
    from localllm.convert import convert

    status = StatusLine()
    try:
        made = convert(
            source, target, output_type, lambda n_done, n_total: status.show(f"converting {n_done / n_total:.0%}")
        )
    finally:
        status.clear()
    for note in made.notes:
        notice(note)
    notice(f"{made.architecture}, {made.n_params:,} weights in {made.n_tensors} tensors, {size(made.n_bytes)}")
    click.echo(str(made.path))
