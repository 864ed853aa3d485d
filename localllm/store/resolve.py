"""Turns what people call a model into the file it is in. Nothing is loaded or downloaded here.

What a text means is decided in this order:

1. a file that is there; the demo model, by its name
2. a name in our own folder (downloads by URL, imports), then in the folders of the setting `model_dirs`
3. a name of the catalog, whose repository is looked up in the places of 4
4. what the Hugging Face cache, then Ollama, then LM Studio call a model

In which forms, `localllm.store.inventory` says. What is nowhere is an error, with the nearest name, or with the command
that fetches it.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.errors import ModelNotFound, ModelNotHere, RequestError
from localllm.store.demo import DEMO_NAME, demo_model
from localllm.store.models import OTHERS, OURS

if TYPE_CHECKING:
    from localllm.hub.refs import RepoRef
    from localllm.store.inventory import Inventory
    from localllm.store.models import StoredModel

N_LISTED_MAX = 3
"""Files of a directory that an error names."""
_MAX_SHOWN = 200
"""Characters of a name that an error repeats."""


def resolve(ref: str | None) -> Path:
    """Return the absolute path of the model that `ref` means.

    Args:
        ref: any form of `localllm.hub.refs`; None is the demo model. Symbolic links are kept: in a cache, the link
        has the name and its target has not.

    Raises:
        ModelNotFound: it is on this disk under no such name; the hint says what there is, or how to fetch it.
        RequestError: the settings cannot be read.
    """
    if ref is None or (ref == DEMO_NAME and not os.path.isfile(ref)):
        return demo_model()
    path = os.path.expanduser(ref)
    if os.path.isfile(path):
        return Path(os.path.abspath(path))
    from localllm.store.inventory import Inventory

    return find_model(ref, Inventory()).path


def find_model(ref: str, inventory: Inventory) -> StoredModel:
    """Return the model of an inventory that `ref` means: as `resolve`, and a path means the model it is a file of.

    Raises:
        ModelNotFound: it means none.
    """
    return find_models(ref, inventory)[0]


def find_models(ref: str, inventory: Inventory) -> list[StoredModel]:
    """Return the models that `ref` fits, at least one: what it means, then others of the same place.

    Raises:
        ModelNotFound: it fits none.
    """
    path = os.path.expanduser(ref)
    if os.path.isfile(path):
        model = inventory.at(Path(path))
        if model is None:
            raise ModelNotFound(f"{_shown(ref)} is in none of the places of models.", hint="See localllm list.")
        return [model]
    found = inventory.find(ref, OURS) or _of_the_catalog(ref, inventory) or inventory.find(ref, OTHERS)
    if found:
        return found
    if os.path.isdir(path):
        raise _is_directory(ref, path)
    if os.path.lexists(path):
        raise _is_no_file(ref, path)
    return _by_its_form(ref, inventory)


def knows(ref: str) -> bool:
    """Tell whether a text is the name of a model on this disk."""
    from localllm.store.inventory import Inventory

    if ref == DEMO_NAME or os.path.isfile(ref):
        return True
    inventory = Inventory()
    return bool(inventory.find(ref) or _of_the_catalog(ref, inventory))


def _of_the_catalog(text: str, inventory: Inventory) -> list[StoredModel]:
    """Return the models that a name of the catalog stands for; none if there is no such name, or it is not here."""
    repo = _catalog_repo(text)
    return inventory.find(str(repo), OTHERS) if repo else []


def _catalog_repo(text: str) -> RepoRef | None:
    from localllm.hub.refs import NameRef, parse_ref
    from localllm.store.catalog_names import catalog_ref

    try:
        ref = parse_ref(text)
    except RequestError:
        return None
    return catalog_ref(ref) if isinstance(ref, NameRef) else None


def _by_its_form(text: str, inventory: Inventory) -> list[StoredModel]:
    """Look up what a text says in another form, such as an address of the hub."""
    from localllm.hub.refs import FileRef, NameRef, RemoteRef, UrlRef, parse_ref

    try:
        ref = parse_ref(text)
    except RequestError as error:
        raise ModelNotFound(f"No model is called {_shown(text)!r}.", hint=error.hint or error.message) from error
    if isinstance(ref, RemoteRef):
        raise ModelNotFound(
            f"{_shown(text)} is an engine elsewhere, not a model on this disk.", hint="Name a model that is here."
        )
    if isinstance(ref, FileRef):
        raise _no_file(text, os.path.expanduser(text))
    found = inventory.find(ref.url.partition("?")[0] if isinstance(ref, UrlRef) else str(ref))
    if found:
        return found
    _check_imports(text)
    fetch = f"Fetch it: localllm pull {_shown(text)}"
    if not isinstance(ref, NameRef):
        raise ModelNotHere(f"{_shown(text)} is not on this disk.{_guess(text, inventory)}", hint=fetch)
    if _catalog_repo(text) is None:
        hint = f"localllm list shows what is here, localllm catalog what is known; {DEMO_NAME} is the demo model."
        raise ModelNotFound(f"No model is called {_shown(text)!r}.{_guess(text, inventory)}", hint=hint)
    raise ModelNotHere(f"{_shown(text)} is not on this disk.", hint=fetch)


def _check_imports(name: str) -> None:
    """Say so if a name is that of a link to a file that is gone."""
    try:
        original = os.readlink(paths.models_dir() / f"{name}.gguf")
    except (OSError, ValueError):
        return
    message = f"{_shown(name)} was imported from {_shown(original)}, which is not there any more."
    raise ModelNotFound(message, hint=f"Bring it back, or import another file with --name {_shown(name)}.")


def _guess(text: str, inventory: Inventory) -> str:
    """Return a sentence with the nearest of all names, ours first; nothing if none is near."""
    from localllm.store.catalog_names import catalog_names

    names = {name.lower(): name for name in reversed([DEMO_NAME, *inventory.names(), *catalog_names()])}
    near = get_close_matches(text.lower()[:_MAX_SHOWN], names, n=1)
    files = get_close_matches(f"{text[:_MAX_SHOWN]}.gguf", _gguf_files("."), n=1)
    return f" Did you mean {_shown(names[near[0]] if near else files[0])}?" if near or files else ""


def _is_directory(ref: str, path: str) -> ModelNotFound:
    files = _gguf_files(path)
    if not files:
        return ModelNotFound(
            f"{_shown(ref)} is a directory, without a .gguf file in it.", hint="Give the path of a .gguf file."
        )
    shown = ", ".join(map(_shown, files[:N_LISTED_MAX]))
    more = len(files) - N_LISTED_MAX
    rest = f" and {more} more" if more > 0 else ""
    return ModelNotFound(
        f"{_shown(ref)} is a directory, with {shown}{rest} in it.",
        hint=f"Give a file, such as {_shown(os.path.join(ref, files[0]))}",
    )


def _is_no_file(ref: str, path: str) -> ModelNotFound:
    kind = "a link to nothing" if os.path.islink(path) else "not a regular file"
    return ModelNotFound(f"{_shown(ref)} is {kind}.", hint="Give the path of a .gguf file.")


def _no_file(ref: str, path: str) -> ModelNotFound:
    folder, name = os.path.split(path)
    near = get_close_matches(name, _gguf_files(folder or "."), n=1)
    if near:
        guess = os.path.join(os.path.dirname(ref), near[0])
        return ModelNotFound(f"No file {_shown(ref)}. Did you mean {_shown(guess)}?", hint="Check the path.")
    if folder and not os.path.isdir(folder):
        message = f"No file {_shown(ref)}: there is no directory {_shown(folder)}."
        return ModelNotFound(message, hint="Check the path.")
    return ModelNotFound(f"No file {_shown(ref)}.", hint=f"Check the path, or leave the model out to use {DEMO_NAME}.")


def _gguf_files(folder: str) -> list[str]:
    """Return the names of the .gguf files in `folder`, sorted; none if it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if name.lower().endswith(".gguf"))
    except (OSError, ValueError):
        return []


def _shown(text: str) -> str:
    from localllm.gguf.problems import printable

    return printable(text, _MAX_SHOWN)
