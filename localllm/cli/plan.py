"""`localllm plan`: what a model would take on this machine, and how fast it would be."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localllm.cli.options import draft_options, load_options
from localllm.cli.plan_text import report_json, report_lines
from localllm.config import load_settings
from localllm.errors import ModelNotFound, ModelNotHere
from localllm.hub.refs import NameRef, RepoRef, UrlRef, parse_ref

if TYPE_CHECKING:
    from localllm.config import Settings
    from localllm.hardware.types import LoadOptions


@click.command("plan", short_help="Say what a model would take here, and how fast it would be.")
@click.argument("ref", required=False)
@click.option("--slots", default=1, show_default=True, type=click.IntRange(1, 256), help="Answers at once.")
@click.option("--again", is_flag=True, help="Measure this machine's speed again.")
@click.option("--no-speed", is_flag=True, help="Do not measure: say only what it takes.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@load_options
@draft_options
def command(ref: str | None, slots: int, again: bool, no_speed: bool, as_json: bool, **flags: str | None) -> None:
    """Say what a model would take here, and how fast it would be. Without REF, the default model.

    Only the file's header is read, also of a file on the web, before it is downloaded. The speed is foretold from
    products that are measured on this machine, once for each kind of model. The exit code is 5 if it does not fit.

    \b
    localllm plan smollm2 --n-ctx 8192 --slots 4
    localllm plan qwen3-8b:Q4_K_M
    localllm plan Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M --n-ctx 32768
    """
    from localllm.runtime.planning import plan_report

    settings = load_settings(flags)
    with ExitStack() as stack:
        path = _header_of(ref or settings.model, stack)
        files = _other_files(ref or settings.model)
        report = plan_report(path, _options(settings, slots), files=files, measures=not no_speed, again=again)
        name = path.name
    if as_json:
        click.echo(report_json(name, report))
    else:
        click.echo("\n".join(report_lines(name, report)))
    if report.refusal is not None:
        raise report.refusal


def _header_of(text: str | None, stack: ExitStack) -> Path:
    """Return a file with the model's header: the model itself, or what its server sends of it."""
    from localllm.store import resolve

    try:
        return resolve(text)
    except ModelNotHere:
        if text is None:
            raise
    from localllm.hub.addresses import remote_file
    from localllm.hub.remote_header import remote_header

    return stack.enter_context(remote_header(remote_file(_elsewhere(text))))


def _other_files(text: str | None) -> dict[str, int]:
    """Return the sizes of the model's other quantizations, where the catalog knows them, by what they are called."""
    from localllm.hub.catalog import load_catalog

    ref = None if text is None else parse_ref(text)
    if not isinstance(ref, NameRef):
        return {}
    try:
        entry = load_catalog().find(ref.name, ref.tag)
    except ModelNotFound:
        return {}
    sizes = {tag: entry.n_bytes(tag) or 0 for tag in entry.tags if tag != entry.tag(ref.tag)}
    return {f"{entry.name}:{tag}": n_bytes for tag, n_bytes in sizes.items() if n_bytes}


def _elsewhere(text: str) -> RepoRef | UrlRef:
    """Return where on the web a model is that is not on this disk."""
    from localllm.hub.catalog import repo_ref

    ref = parse_ref(text)
    if isinstance(ref, NameRef):
        return repo_ref(ref)
    assert isinstance(ref, RepoRef | UrlRef), "files and remotes are no models that are not here"
    return ref


def _options(settings: Settings, n_slots: int) -> LoadOptions:
    from localllm.hardware.types import LoadOptions
    from localllm.store import resolve

    kinds: Any = settings.kv_types
    return LoadOptions(
        n_ctx=settings.n_ctx,
        gpu_layers=settings.gpu_layers,
        n_slots=n_slots,
        n_threads=settings.threads,
        kv_type_k=kinds[0],
        kv_type_v=kinds[1],
        rpc=settings.rpc,
        draft_model=None if settings.draft_model is None else resolve(settings.draft_model),
    )
