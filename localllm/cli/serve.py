"""`localllm serve`: the HTTP server."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.announce import announce, open_browser
from localllm.cli.options import adapter_options, adapter_specs, draft_options, load_options, policy_options
from localllm.config import API_KEY_VARIABLE, Settings, load_settings
from localllm.errors import ModelNotFound, RequestError
from localllm.hardware.types import LoadOptions
from localllm.setting_values import parse_size
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.llm import LLM, GenerateOptions
    from localllm.server.directory import MoreEntries
    from localllm.server.manager import ModelEntry
    from localllm.server.settings import ServerSettings


@click.command("serve", short_help="Serve models over HTTP, for OpenAI's clients and others.")
@click.argument("models", nargs=-1, metavar="[MODEL|NAME=MODEL]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free port.")
@click.option("--all", "serves_all", is_flag=True, help="Beside MODEL, serve all others on this computer.")
@click.option("--slots", default=4, show_default=True, type=click.IntRange(1, 240), help="Answers at once, each model.")
@load_options
@draft_options
@policy_options
@adapter_options
@click.option("--alias", "aliases", multiple=True, metavar="ALIAS=NAME", help="One more name for a model.")
@click.option("--pin", "pinned", multiple=True, metavar="NAME", help="Never unload this model.")
@click.option("--preload", is_flag=True, help="Load the first model before the first request.")
@click.option("--max-memory", metavar="SIZE", help="Memory for all loaded models together, such as 12GB.")
@click.option("--idle-timeout", metavar="SECONDS", type=click.FloatRange(1), help="Unload what is idle for so long.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help=f"A key a line; or set {API_KEY_VARIABLE}.")
@click.option("--allow-open", is_flag=True, help="Serve other machines without a key.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="A name that clients may call the server by."
)
@click.option("--cors-origin", "origins", multiple=True, metavar="ORIGIN", help="A web page that may use the API.")
@click.option("--max-body", default="32MB", show_default=True, metavar="SIZE", help="The largest request.")
@click.option("--max-requests", default=256, show_default=True, type=click.IntRange(1), help="Beyond: 503.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Serve HTTPS with this certificate (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="... and its key.")
@click.option("--no-admin", is_flag=True, help="Clients may not load, unload or pin models.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-level", metavar="LEVEL", default="info", show_default=True, help=Settings.help("log_level"))
@click.option("--open", "open_page", is_flag=True, help="Open the built-in page in a browser.")
@click.option("--lifeline", is_flag=True, hidden=True, help="Stop when stdin ends: for programs that start a server.")
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    serves_all: bool,
    slots: int,
    lora: tuple[Path, ...],
    lora_scaled: tuple[tuple[Path, float], ...],
    aliases: tuple[str, ...],
    pinned: tuple[str, ...],
    preload: bool,
    max_memory: str | None,
    idle_timeout: float | None,
    api_key_file: Path | None,
    allow_open: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    max_body: str,
    max_requests: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    no_admin: bool,
    log_format: str,
    log_level: str,
    open_page: bool,
    lifeline: bool,
    **flags: str | None,
) -> None:
    """Serve models over HTTP. Without MODEL, all that are on this computer, the default model first.

    Models are loaded when they are first asked for, each in a process of its own.

    \b
    localllm serve
    localllm serve smollm2 coder=qwen2.5-coder-1.5b.gguf --pin coder
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none your-program
    """
    _need_server_packages()
    from localllm.server.logs import configure_logging
    from localllm.server.settings import ServerSettings

    settings = load_settings({**flags, "log_level": log_level})
    configure_logging(settings.log_level, "json" if log_format == "json" else "text")
    server = ServerSettings(
        host=host,
        port=port,
        key_digests=_key_digests(api_key_file),
        allow_open=allow_open,
        allowed_hosts=hosts,
        cors_origins=origins,
        max_body_bytes=_bytes(max_body, "--max-body"),
        max_requests=max_requests,
        tls_cert=tls_cert,
        tls_key=tls_key,
        admin=not no_admin,
    )
    refs = list(models) or ([settings.model] if settings.model else [])
    specs = adapter_specs(lora, lora_scaled)
    if specs and len(refs) > 1:
        raise RequestError("An adapter belongs to one model.", hint="Serve that model alone with --lora.")
    if settings.draft_model is not None and len(refs) > 1:
        raise RequestError("A draft model belongs to one model.", hint="Serve that model alone with --draft-model.")
    limit = _bytes(max_memory, "--max-memory") if max_memory else None
    options = replace(_load_options(settings, slots), adapters=tuple(specs), max_memory_bytes=limit)
    entries, more = _entries(refs, options, settings, pinned, aliases, serves_all=serves_all or not models)
    as_json = log_format == "json"
    defaults: GenerateOptions = {"context_policy": settings.context_policy, "n_sink": settings.n_sink}
    _serve(
        server,
        entries,
        more,
        defaults,
        limit,
        idle_timeout,
        preload=preload,
        open_page=open_page,
        as_json=as_json,
        lifeline=lifeline,
    )


def _entries(
    refs: list[str],
    options: LoadOptions,
    settings: Settings,
    pinned: tuple[str, ...],
    aliases: tuple[str, ...],
    *,
    serves_all: bool,
) -> tuple[list[ModelEntry], MoreEntries | None]:
    """Return what is always served, and what finds the others."""
    from localllm.server.entries import parse_entries
    from localllm.server.shelf import StoreShelf

    is_of_one = bool(options.adapters) or options.draft_model is not None
    if not serves_all or is_of_one:
        return parse_entries(refs, options, pinned=pinned, aliases=aliases), None
    entries = parse_entries(refs or _first_of_store(options, settings), options, pinned=pinned, aliases=aliases)
    served = frozenset(path for entry in entries for path in (entry.path, entry.path.resolve()))
    return entries, StoreShelf(options, settings.model_dirs, served).entries


def _first_of_store(options: LoadOptions, settings: Settings) -> list[str]:
    """Return what the default is where the user names none: the demo model, else the first that there is, if any."""
    from localllm.server.shelf import StoreShelf
    from localllm.store.demo import DEMO_NAME, demo_model

    try:
        demo_model()
    except ModelNotFound:
        return [f"{entry.name}={entry.path}" for entry in StoreShelf(options, settings.model_dirs).entries()[:1]]
    return [DEMO_NAME]


def _bytes(text: str, flag: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise RequestError(f"{flag} is {text!r}; it must be {error}.", hint="Units are powers of 1024.") from None


def _serve(
    settings: ServerSettings,
    entries: list[ModelEntry],
    more: MoreEntries | None,
    defaults: GenerateOptions,
    max_bytes: int | None,
    idle_s: float | None,
    *,
    preload: bool,
    open_page: bool,
    as_json: bool,
    lifeline: bool,
) -> None:
    from localllm.server.app import create_app
    from localllm.server.manager import ModelManager
    from localllm.server.serving import bound_socket, check_tls, make_server

    open_model = partial(_open_model, defaults)
    manager = ModelManager(entries, open_model, max_bytes=max_bytes, idle_s=idle_s, preload=preload, more=more)
    check_tls(settings)
    sock = bound_socket(settings)
    settings = replace(settings, port=sock.getsockname()[1])

    names = [entry.name for entry in (*entries, *(more() if more else ()))]

    def on_start() -> None:
        announce(settings, names, as_json=as_json)
        if open_page:
            open_browser(settings.base_url)

    server = make_server(create_app(settings, manager), settings, on_start=on_start, on_overdue=manager.close)
    if lifeline:
        from localllm.server.lifeline import end_with_stdin

        end_with_stdin(server.ask_to_stop)
    server.run(sockets=[sock])


def _open_model(defaults: GenerateOptions, entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
    from localllm.llm.model import LLM
    from localllm.runtime import open_backend

    return LLM(open_backend(entry.path, entry.options, in_process=False, on_progress=on_progress), defaults)


def _load_options(settings: Settings, n_slots: int) -> LoadOptions:
    kv_type_k, kv_type_v = settings.kv_types
    return LoadOptions(
        n_ctx=settings.n_ctx,
        gpu_layers=settings.gpu_layers,
        n_slots=n_slots,
        n_threads=settings.threads,
        kv_type_k=kv_type_k,
        kv_type_v=kv_type_v,
        spec=settings.spec,
        shares_texts=settings.spec_lookup == "shared",
        draft_model=None if settings.draft_model is None else resolve(settings.draft_model),
        kv_store_bytes=settings.kv_store,
        rpc=settings.rpc,
    )


def _key_digests(file: Path | None) -> tuple[bytes, ...]:
    from localllm.server.settings import key_digest

    keys = [os.environ.get(API_KEY_VARIABLE, "")]
    if file is not None:
        try:
            keys += [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"Cannot read the keys in {file}: {error}.", hint="Write one key a line.") from error
        if not any(keys[1:]):
            raise RequestError(f"There is no key in {file}.", hint="Write one key a line.")
    return tuple(key_digest(key) for key in keys if key)


def _need_server_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise RequestError(
            f"The server's packages are not installed ({error.name} is missing).",
            hint='Install them: pip install "localllm[server]"',
        ) from error
