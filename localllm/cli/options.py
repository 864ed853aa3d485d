"""The flags that verbs share. Each is a setting, so its help and its bounds are those of `localllm.config`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from localllm.config import Settings
from localllm.errors import InvalidGrammar
from localllm.hardware.types import AdapterSpec
from localllm.hub.refs import remote_ref
from localllm.llm.options import GenerateOptions, parse_options

_METAVARS = {
    "n_ctx": "N",
    "threads": "N",
    "gpu_layers": "auto|all|N",
    "rpc": "HOST:PORT",
    "kv_type": "TYPE",
    "kv_type_k": "TYPE",
    "kv_type_v": "TYPE",
    "kv_store": "SIZE",
    "spec": "auto|off|ngram|lookahead|draft",
    "spec_lookup": "own|shared",
    "draft_model": "REF",
    "seed": "N",
    "temperature": "X",
    "top_p": "P",
    "top_k": "N",
    "min_p": "P",
    "max_tokens": "N",
    "context_policy": "error|shift|sinks",
    "n_sink": "N",
    "system": "TEXT",
}


_FILE = click.Path(path_type=Path)

Verb = TypeVar("Verb", bound=Callable[..., None])


_MACHINE = ("threads", "gpu_layers")
_LOADING = (
    "n_ctx", "threads", "gpu_layers", "rpc", "kv_type", "kv_type_k", "kv_type_v", "kv_store", "spec", "spec_lookup",
)  # fmt: skip
_DRAFT = ("draft_model",)
_THREADS = ("threads",)
_POLICY = ("context_policy", "n_sink")

LOADING = (*_LOADING, *_DRAFT)
"""Settings of how a model is loaded."""


def adapter_options(command: Verb) -> Verb:
    """Add the flags of LoRA adapters, which `adapter_specs` reads."""
    lora = click.option(
        "--lora", metavar="PATH", type=_FILE, multiple=True, help="Apply this LoRA adapter (GGUF); may be repeated."
    )
    scaled = click.option(
        "--lora-scaled",
        metavar="PATH SCALE",
        type=(_FILE, float),
        multiple=True,
        help="Apply this LoRA adapter at this scale, where 1 is as trained; may be repeated.",
    )
    return lora(scaled(command))


def load_options(command: Verb) -> Verb:
    """Add the flags of loading alone; they arrive as text in keyword arguments named like the settings."""
    return _with_settings(command, _LOADING)


def draft_options(command: Verb) -> Verb:
    """Add the flag of the draft model alone, in the same way."""
    return _with_settings(command, _DRAFT)


def policy_options(command: Verb) -> Verb:
    """Add the flags of the context policy alone, in the same way."""
    return _with_settings(command, _POLICY)


def machine_options(command: Verb) -> Verb:
    """Add the flags of what computes, in the same way."""
    return _with_settings(command, _MACHINE)


def thread_options(command: Verb) -> Verb:
    """Add the flag of threads alone, in the same way."""
    return _with_settings(command, _THREADS)


def _with_settings(command: Verb, names: Sequence[str]) -> Verb:
    for name in reversed(names):
        option = click.option(f"--{name.replace('_', '-')}", name, metavar=_METAVARS[name], help=Settings.help(name))
        command = option(command)
    return command


def shared_options(command: Verb) -> Verb:
    """Add the flags of loading and sampling; they arrive as text in keyword arguments named like the settings."""
    schema = click.option(
        "--json-schema",
        "schema_file",
        metavar="FILE",
        type=_FILE,
        help="Answer in JSON that follows the schema in this file.",
    )
    return _with_settings(adapter_options(schema(command)), list(_METAVARS))


def adapter_specs(lora: Sequence[Path], lora_scaled: Sequence[tuple[Path, float]]) -> list[AdapterSpec]:
    """Return the adapters that the flags name: those of --lora, then those of --lora-scaled."""
    return [*map(AdapterSpec, lora), *(AdapterSpec(path, scale) for path, scale in lora_scaled)]


def generation_options(settings: Settings, schema_file: Path | None, **more: Any) -> GenerateOptions:
    """Return the options of a generation, all checked; for a remote, those that somebody chose: the rest is its own.

    Raises:
        RequestError: a value is not allowed.
        InvalidGrammar: the schema's file cannot be read, or its schema cannot be honoured.
    """
    options: GenerateOptions = {
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "seed": settings.seed,
        "max_tokens": settings.max_tokens,
        "context_policy": settings.context_policy,
        "n_sink": settings.n_sink,
        **more,  # type: ignore[typeddict-item]
    }
    if remote_ref(settings.model):
        options = {name: value for name, value in options.items() if name in more or settings.source(name) != "default"}  # type: ignore[assignment]
    if schema_file is not None:
        options["json_schema"] = read_schema(schema_file)
    parse_options(options)
    return options


def read_schema(path: Path) -> str:
    """Read the text of a JSON schema.

    Raises:
        InvalidGrammar: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidGrammar(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise InvalidGrammar(f"{path} is not UTF-8 text.", hint="Give a file with a JSON schema.") from error
