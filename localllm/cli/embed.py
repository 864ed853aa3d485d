"""`localllm embed`: texts as vectors."""

from __future__ import annotations

import json
from dataclasses import replace

import click

from localllm.cli.model import open_model
from localllm.cli.options import load_options
from localllm.cli.run import piped_text
from localllm.cli.status import StatusLine
from localllm.config import load_settings
from localllm.errors import RequestError


@click.command("embed", short_help="Turn texts into vectors.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--model", metavar="MODEL", help="The model to use, a name or a file.")
@click.option("--dimensions", metavar="N", type=int, help="Only the first N numbers, for models trained for it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: model, vectors, n_tokens.")
@load_options
def command(
    texts: tuple[str, ...], model: str | None, dimensions: int | None, as_json: bool, **flags: str | None
) -> None:
    """Turn texts into vectors of length 1, on stdout: a line of numbers for each text.

    Texts of like meaning get vectors of like direction. Without a TEXT, each line of stdin is one.

    \b
    localllm embed --model minilm.gguf "a cat" "a kitten"
    localllm embed --model minilm.gguf --json < sentences.txt
    """
    inputs = texts or tuple(line for line in (piped_text() or "").splitlines() if line)
    if not inputs:
        raise RequestError("There is no text.", hint='Write: localllm embed "a text"')
    # What the environment or the file says of drafts is meant for text.
    settings = replace(load_settings({**flags, "model": model}), spec="off", draft_model=None)
    with open_model(settings, StatusLine(), (), in_process=True) as llm:
        result = llm.embed(inputs, dimensions=dimensions)
        if as_json:
            fields = {"model": llm.info.name, "vectors": result.vectors.tolist(), "n_tokens": result.n_tokens}
            click.echo(json.dumps(fields, ensure_ascii=False))
        else:
            for vector in result.vectors.tolist():
                click.echo(" ".join(f"{number:.7g}" for number in vector))
