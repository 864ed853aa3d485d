"""Flags that make sense for models here, or for remotes, and not for both."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click
from click.core import ParameterSource

from localllm.config import Settings
from localllm.errors import RequestError


def refuse_flags(settings: Settings, names: Sequence[str], *flags: str | None) -> None:
    """Refuse flags that mean nothing to a remote; what the environment or the file says is meant for models here.

    Args:
        settings: with the sources of their values.
        names: settings that are not for remotes.
        flags: others that were given; None is one that was not.

    Raises:
        RequestError: one of them was given.
    """
    given = [*(source for name in names if (source := settings.source(name)).startswith("--")), *filter(None, flags)]
    if given:
        raise _not_for_remotes(given[0], str(settings.model))


def allow_only(context: click.Context, model: str, names: Collection[str]) -> None:
    """Refuse what a command was given beyond these parameters, since its model is a remote's.

    Raises:
        RequestError: something else was given; the first is named.
    """
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_given and parameter.name not in names and context.params.get(parameter.name or ""):
            raise _not_for_remotes(parameter.opts[0] if isinstance(parameter, click.Option) else "A type", model)


def refuse_for_local(context: click.Context, names: Collection[str]) -> None:
    """Refuse parameters that only remotes have.

    Raises:
        RequestError: one of them was given.
    """
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = next(one.opts[0] for one in context.command.params if one.name == name)
            raise RequestError(f"{flag} is for remotes.", hint="Name one, such as @lab: localllm remote list")


def _not_for_remotes(flag: str, model: str) -> RequestError:
    return RequestError(
        f"{flag} is not for a remote: {model} runs there, not here.",
        hint=f"Leave {flag} out, or set it where the engine starts.",
    )
