"""`localllm pull`: a model from the hub, or from a URL, onto this disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from localllm.cli.screen import notice
from localllm.cli.tables import size

if TYPE_CHECKING:
    from localllm.hub.pulled import Pulled, PullOptions


@click.command("pull", short_help="Fetch a model from the Hugging Face Hub, or from a URL.")
@click.argument("ref", metavar="REF")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors on stderr.")
def command(ref: str, as_json: bool, quiet: bool) -> None:
    """Fetch a model, and print the path of its file.

    REF is a name of `localllm catalog`, or org/name, either with a quantization (:Q4_K_M), org/name@revision:Q4_K_M,
    hf://org/name/file.gguf, or a URL of a .gguf file.
    Without a quantization it is Q4_K_M, or the next best. A split model comes whole.

    A download that was interrupted goes on where it was. Nothing appears under its name before its SHA-256 is checked.
    Files of the hub are in huggingface_hub's cache (HF_HOME), where other programs find them, and theirs are used.

    \b
    localllm pull qwen3-8b
    localllm pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M
    localllm run "$(localllm pull org/name)" "Hello"
    """
    pulled = fetch(ref, is_quiet=quiet)
    if as_json:
        click.echo(_json(pulled))
        return
    if not quiet:
        was_here = "was here" if not pulled.n_fetched_bytes else f"{size(pulled.n_fetched_bytes)} fetched"
        notice(f"{size(pulled.n_bytes)}, {was_here}")
    click.echo(str(pulled.path))


def fetch(ref: str, *, is_quiet: bool = False) -> Pulled:
    """Fetch a model, with progress on stderr.

    Raises:
        LocalLLMError: as `hub.pull`.
        KeyboardInterrupt: Ctrl-C.
    """
    from localllm.hub import parse_ref
    from localllm.hub.pull import pull

    try:
        with _options(is_quiet=is_quiet) as options:
            return pull(parse_ref(ref), options)
    except KeyboardInterrupt:
        notice("Stopped. What has come is kept; the same command goes on from there.")
        raise


@contextlib.contextmanager
def _options(*, is_quiet: bool) -> Iterator[PullOptions]:
    from localllm.cli.pull_progress import progress_view
    from localllm.hub.pulled import PullOptions

    if is_quiet:
        yield PullOptions()
        return
    view = progress_view()
    say: Callable[[str], None] = notice
    try:
        yield PullOptions(on_progress=view.show, on_note=say)
    finally:
        view.close()


def _json(pulled: Pulled) -> str:
    import json

    return json.dumps(
        {
            "path": str(pulled.path),
            "paths": [str(path) for path in pulled.paths],
            "n_bytes": pulled.n_bytes,
            "n_fetched_bytes": pulled.n_fetched_bytes,
            "commit": pulled.commit,
        }
    )
