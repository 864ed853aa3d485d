"""`localllm rm`: delete models."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from localllm.cli.numbers import json_text
from localllm.cli.screen import notice
from localllm.cli.tables import size, table
from localllm.errors import RequestError

if TYPE_CHECKING:
    from localllm.store.inventory import Inventory
    from localllm.store.models import StoredModel
    from localllm.store.removal import Removal

_OF_OTHERS = ("folder", "ollama", "lmstudio")


@click.command("rm", short_help="Delete models.")
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask.")
@click.option(
    "--force",
    "forced",
    type=click.Choice(_OF_OTHERS),
    multiple=True,
    help="Delete models of this place, too, although they are another program's, or in a folder of yours.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(refs: tuple[str, ...], is_agreed: bool, forced: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete models, and say what that frees. A file that several models share stays while one of them does.

    \b
    localllm rm org/name:Q4_K_M
    localllm rm llama3.2:1b --force ollama
    """
    from localllm.store.inventory import Inventory
    from localllm.store.models import Place
    from localllm.store.removal import plan_removal, remove

    inventory = Inventory()
    removal = plan_removal([_the_one(ref, inventory) for ref in refs], map(Place, forced))
    if not as_json:
        _show(removal, inventory)
    if not dry_run:
        _ask(is_agreed)
        remove(removal)
    if as_json:
        fields = {"files": list(map(str, removal.files)), "freed_bytes": removal.freed_bytes, "deleted": not dry_run}
        click.echo(json_text({**fields, "remarks": list(removal.remarks)}))
    elif not dry_run:
        click.echo(f"Freed {size(removal.freed_bytes)}.")


def _the_one(ref: str, inventory: Inventory) -> StoredModel:
    """Return the model that a name means; elsewhere the preferred one of several is taken, but not to be deleted."""
    from localllm.gguf import printable
    from localllm.store.resolve import find_models

    found = find_models(ref, inventory)
    if len(found) > 1:
        names = ", ".join(printable(inventory.ref(model), 200) for model in found)
        raise RequestError(
            f"{printable(ref, 200)} fits {len(found)} models: {names}.", hint="Name those that are to go."
        )
    return found[0]


def _show(removal: Removal, inventory: Inventory) -> None:
    from localllm.gguf import printable

    rows = [(printable(inventory.ref(model), 200), size(model.n_bytes), model.place) for model in removal.models]
    for line in table(rows, (1,)):
        notice(line)
    for remark in removal.remarks:
        notice(remark)
    notice(f"Deleting this frees {size(removal.freed_bytes)}.")


def _ask(is_agreed: bool) -> None:
    if is_agreed:
        return
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise RequestError("Nobody is here to be asked, and nothing was deleted.", hint="Add --yes.")
    if not click.confirm("Delete?", err=True):
        raise click.Abort
