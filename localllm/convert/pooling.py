"""How an embedder's vectors become one: what sentence-transformers' modules say."""

from __future__ import annotations

import json
from pathlib import Path

import gguf

from localllm.convert.config import Config, read_json
from localllm.errors import InvalidCheckpoint, UnsupportedModel

MODULES = "modules.json"
_MODES = {
    "pooling_mode_mean_tokens": gguf.PoolingType.MEAN,
    "pooling_mode_cls_token": gguf.PoolingType.CLS,
    "pooling_mode_lasttoken": gguf.PoolingType.LAST,
}
_NAMES = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS, "lasttoken": gguf.PoolingType.LAST}
_HARMLESS = ("Transformer", "Pooling", "Normalize")


def read_pooling(folder: Path) -> gguf.PoolingType | None:
    """Return how vectors are pooled; None where nothing says so.

    Raises:
        InvalidCheckpoint: the modules' files are damaged.
        UnsupportedModel: there is a module that llama.cpp does not compute, or another way of pooling.
    """
    if not (folder / MODULES).is_file():
        return None
    try:
        modules = [
            (str(module["type"]).rpartition(".")[2], str(module["path"]))
            for module in json.loads((folder / MODULES).read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidCheckpoint(f"{MODULES} is no list of modules.", hint="Download the model again.") from error
    for kind, _ in modules:
        if kind not in _HARMLESS:
            raise UnsupportedModel(
                f"The vectors go through a module {kind!r}, which is not converted.", hint="Choose a model without it."
            )
    path = next((path for kind, path in modules if kind == "Pooling"), None)
    return None if path is None else _mode(Config(read_json(folder / Path(path).name / "config.json")))


def _mode(config: Config) -> gguf.PoolingType:
    found = [mode for key, mode in _MODES.items() if config.flag(key)]
    found = found or [_NAMES[name] for name in [config.get("pooling_mode")] if name in _NAMES]
    if len(found) != 1:
        raise UnsupportedModel(
            "The vectors are pooled in a way that llama.cpp does not know; it knows the mean, the first and the last.",
            hint="Choose a model without it.",
        )
    return found[0]
