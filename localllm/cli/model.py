"""Loading a model for a verb, with its progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from localllm.cli.options import LOADING
from localllm.cli.pull import fetch
from localllm.cli.remote_flags import refuse_flags
from localllm.cli.screen import notice
from localllm.cli.status import StatusLine
from localllm.config import Settings
from localllm.errors import ModelNotHere
from localllm.hardware.types import AdapterSpec
from localllm.hub.refs import remote_ref
from localllm.llm import LLM, load


def open_model(settings: Settings, status: StatusLine, adapters: Sequence[AdapterSpec], *, in_process: bool) -> LLM:
    """Load the model that the settings name, for one conversation at a time; say on stderr what was reduced.

    One that is elsewhere is offered to be fetched, where somebody sits at the terminal.

    Raises:
        RequestError: a flag is of loading, and the model is a remote's.
        LocalLLMError: as `localllm.load`.
    """
    if remote_ref(settings.model):
        refuse_flags(settings, LOADING, "--lora" if adapters else None)
        return load(settings.model, on_progress=status.loading)
    try:
        return _open_file(settings, status, adapters, in_process=in_process)
    except ModelNotHere as error:
        if settings.model is None or not _is_wanted(error):
            raise
    fetch(settings.model)
    return _open_file(settings, status, adapters, in_process=in_process)


def _is_wanted(missing: ModelNotHere) -> bool:
    is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    return is_terminal and click.confirm(f"{missing.message} Fetch it now?", default=True, err=True)


def _open_file(settings: Settings, status: StatusLine, adapters: Sequence[AdapterSpec], *, in_process: bool) -> LLM:
    kv_type_k, kv_type_v = settings.kv_types
    try:
        llm = load(
            settings.model,
            n_ctx=settings.n_ctx,
            gpu_layers=settings.gpu_layers,
            n_threads=settings.threads,
            kv_type=kv_type_k,
            kv_type_v=kv_type_v,
            kv_store_bytes=settings.kv_store,
            rpc=settings.rpc,
            n_slots=1,
            spec=settings.spec,
            shares_texts=settings.spec_lookup == "shared",
            draft_model=settings.draft_model,
            adapters=adapters,
            in_process=in_process,
            on_progress=status.loading,
        )
    finally:
        status.clear()
    for note in llm.info.plan_notes:
        notice(note)
    return llm
