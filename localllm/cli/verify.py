"""`localllm verify`: are the files of models what they were?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from localllm.cli.numbers import json_text
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import size
from localllm.errors import ModelError

if TYPE_CHECKING:
    from localllm.store.inventory import Inventory
    from localllm.store.verifying import Verdict


@click.command("verify", short_help="Check the files of models for damage.")
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(refs: tuple[str, ...], as_json: bool) -> None:
    """Check models for damage; without REF, all of them. The exit code is 3 if one is damaged.

    A file whose SHA-256 is known is read to its end: in the Hugging Face cache and in Ollama's folder, where files are
    called by it, downloads by URL and copies. Of others the header is checked, and that no part of the file is missing.
    """
    from localllm.store.inventory import Inventory
    from localllm.store.resolve import find_model
    from localllm.store.verifying import verify

    inventory = Inventory()
    models = [find_model(ref, inventory) for ref in refs] if refs else inventory.models
    status = StatusLine(LOG_EVERY_S)
    verdicts = []
    try:
        for verdict in verify(models, lambda done, n: status.show(f"{size(done)} of {size(n)}")):
            verdicts.append(verdict)
            if not as_json:
                status.clear()
                click.echo(_line(verdict, inventory))
    finally:
        status.clear()
    if as_json:
        click.echo(json_text([_fields(verdict, inventory) for verdict in verdicts]))
    damaged = [verdict for verdict in verdicts if not verdict.is_ok]
    if damaged:
        raise ModelError(f"{len(damaged)} of {len(verdicts)} models are damaged.", hint=damaged[0].hint)


def _line(verdict: Verdict, inventory: Inventory) -> str:
    from localllm.gguf import printable

    ref = printable(inventory.ref(verdict.model), 200)
    if verdict.is_ok:
        return f"ok       {ref} ({verdict.check})"
    return f"damaged  {ref}: {printable(verdict.problem or '', 400)} {printable(verdict.hint or '', 400)}".rstrip()


def _fields(verdict: Verdict, inventory: Inventory) -> dict[str, object]:
    return {
        "ref": inventory.ref(verdict.model),
        "is_ok": verdict.is_ok,
        "check": str(verdict.check),
        "problem": verdict.problem,
        "hint": verdict.hint,
    }
