"""`localllm list`: what models are on this disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from localllm.cli.numbers import NOTHING, json_text
from localllm.cli.screen import notice
from localllm.cli.tables import count, size, table
from localllm.config import Settings, load_settings

if TYPE_CHECKING:
    from localllm.store.facts import Facts
    from localllm.store.inventory import Inventory
    from localllm.store.models import StoredModel

_HEAD = ("model", "size", "weights", "quantization", "context", "kind", "place")
_RIGHT = (1, 2, 4)
_MAX_NAME = 120


@click.command("list", short_help="List the models on this computer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--model-dirs", metavar="DIRS", help=Settings.help("model_dirs"))
def command(as_json: bool, model_dirs: str | None) -> None:
    """List the models on this computer: our own, those of the Hugging Face cache, of Ollama and of LM Studio.

    They are read where they lie. The first column is what a model is called in all other commands.
    """
    from localllm.store.header_cache import facts_of
    from localllm.store.inventory import Inventory

    inventory = Inventory(load_settings({"model_dirs": model_dirs}).model_dirs)
    models = inventory.models
    facts = facts_of(models)
    if as_json:
        found = [_fields(inventory.ref(model), model, said) for model, said in zip(models, facts, strict=True)]
        click.echo(json_text(found))
    else:
        _show(inventory, models, facts)


def _show(inventory: Inventory, models: Sequence[StoredModel], facts: Sequence[Facts]) -> None:
    from localllm.store.models import disk_bytes

    if not models:
        notice("There is no model on this computer. Fetch one: localllm pull NAME")
        return
    rows = [_row(inventory.ref(model), model, said) for model, said in zip(models, facts, strict=True)]
    for line in table([_HEAD, *rows], _RIGHT):
        click.echo(line)
    for model, said in zip(models, facts, strict=True):
        if said.problem:
            notice(f"{_clean(inventory.ref(model))}: {said.problem}")
    total = disk_bytes(file for model in models for file in model.files)
    notice(f"{len(models)} model{'s' if len(models) > 1 else ''}, {size(total)}")


def _row(ref: str, model: StoredModel, facts: Facts) -> tuple[str, ...]:
    weights = facts.size_label or (count(facts.n_params) if facts.n_params else NOTHING)
    return (
        _clean(ref),
        size(model.n_bytes),
        _clean(weights),
        facts.quantization or NOTHING,
        f"{facts.n_ctx_train:,}" if facts.n_ctx_train else NOTHING,
        "damaged" if facts.problem else facts.kind or NOTHING,
        model.place,
    )


def _fields(ref: str, model: StoredModel, facts: Facts) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ref": ref,
        "names": list(model.names),
        "place": str(model.place),
        "paths": [str(file.path) for file in model.files],
        "n_bytes": model.n_bytes,
        **asdict(facts),
    }


def _clean(text: str) -> str:
    from localllm.gguf import printable

    return printable(text, _MAX_NAME)
