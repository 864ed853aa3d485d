"""From what the user named to the models that are served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from localllm.errors import RequestError
from localllm.hardware.types import LoadOptions
from localllm.server.manager import ModelEntry
from localllm.store import resolve
from localllm.store.names import own_name

_NAME = re.compile(r"[\w.:+@/-]+")
_MAX_NAME_CHARS = 200


def parse_entries(
    refs: Sequence[str], options: LoadOptions, *, pinned: Iterable[str] = (), aliases: Iterable[str] = ()
) -> list[ModelEntry]:
    """Return an entry for each of `refs`; without any, one for the demo model.

    Args:
        refs: paths, names that the store knows, or NAME=REF to serve one under a name of the user's own.
        options: for all of them.
        pinned: names that never give way.
        aliases: ALIAS=NAME, more names for the same model.

    Raises:
        ModelNotFound: a reference leads nowhere.
        RequestError: a name is taken twice, is not a name, or does not exist.
    """
    found = [_entry(ref, options) for ref in refs] or [_entry(None, options)]
    names = [name.lower() for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"Two models would be named {name}.", hint="Name one of them: OTHER=PATH.")
    more = _parse_aliases(aliases, names)
    kept = [_known(name, names, "--pin") for name in pinned]
    return [
        ModelEntry(
            name=name,
            path=path,
            aliases=tuple(dict.fromkeys([*more.get(name.lower(), ()), *_own_aliases(name, path)])),
            options=options,
            pinned=name.lower() in kept,
        )
        for name, path in found
    ]


def _entry(ref: str | None, options: LoadOptions) -> tuple[str, Path]:
    name, equals, target = (ref or "").partition("=")
    if equals and "/" not in name and "\\" not in name:
        return _checked(name), resolve(target)
    path = resolve(ref)
    is_path = ref is None or "/" in ref or "\\" in ref or ref.lower().endswith(".gguf")
    text = own_name(path) or ref or "model"
    return _checked(re.sub(r"[^\w.:+@-]+", "-", text) if is_path else ref or ""), path


def _own_aliases(name: str, path: Path) -> list[str]:
    """Return the names that people try without being told: the file's."""
    if own_name(path) is None:
        return []
    return [alias for alias in (path.stem, path.name) if alias.lower() != name.lower()]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_CHARS:
        raise RequestError(
            f"{name[:40]!r} is not a name for a model.", hint="Use letters, digits and . _ - : + @, as in small=PATH."
        )
    return name


def _parse_aliases(aliases: Iterable[str], names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    owners = {name: name for name in names}
    for text in aliases:
        alias, equals, name = text.partition("=")
        if not equals:
            raise RequestError(f"--alias {text} has no model.", hint="Write it as --alias ALIAS=NAME.")
        known = _known(name, names, "--alias")
        if owners.setdefault(alias.lower(), known) != known:
            raise RequestError(f"{alias} would stand for {owners[alias.lower()]} and {known}.", hint="Give it to one.")
        found.setdefault(known, []).append(_checked(alias))
    return found


def _known(name: str, names: Sequence[str], flag: str) -> str:
    if name.lower() not in names:
        raise RequestError(f"{flag} names {name!r}, which is not served.", hint=f"There is {', '.join(names)}.")
    return name.lower()
