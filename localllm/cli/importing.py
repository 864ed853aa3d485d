"""`localllm import`: take a model into our own folder."""

from __future__ import annotations

from pathlib import Path

import click

from localllm.cli.numbers import json_text
from localllm.cli.status import StatusLine
from localllm.cli.tables import size


@click.command("import", short_help="Take a GGUF file into the list of models, under a name of your own.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it; without, the name of the file.")
@click.option("--link", "how", flag_value="link", default="link", help="Leave the file where it is (the default).")
@click.option("--copy", "how", flag_value="copy", help="Make a copy.")
@click.option("--move", "how", flag_value="move", help="Move the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: Path, name: str | None, how: str, as_json: bool) -> None:
    """Take a GGUF file into the list of models, so that its name is enough everywhere. Prints that name.

    The file is checked first. A split model is imported by its first part, and comes with all.

    \b
    localllm import ~/Downloads/model-Q4_K_M.gguf --name coder
    localllm run coder "Why is the sky blue?"
    """
    from localllm.store.importing import How, import_model
    from localllm.store.inventory import Inventory

    status = StatusLine()
    try:
        model = import_model(
            path.expanduser(), name, How(how), lambda done, n: status.show(f"{size(done)} of {size(n)}")
        )
    finally:
        status.clear()
    ref = Inventory().ref(model)
    if as_json:
        click.echo(json_text({"ref": ref, "path": str(model.path), "n_bytes": model.n_bytes, "how": how}))
    else:
        click.echo(ref)
