"""Run language models on your own computer.

>>> import localllm
>>> with localllm.load() as llm:
...     for event in llm.chat("Name three prime numbers."):
...         if isinstance(event, localllm.TextDelta):
...             print(event.text, end="", flush=True)

The names below are imported on first use, so that `import localllm` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from localllm._version import __version__

if TYPE_CHECKING:
    from localllm.engine.events import Timings, Usage
    from localllm.engine.stats import EngineStats
    from localllm.errors import (
        ContextLengthExceeded,
        EngineError,
        InvalidGrammar,
        LocalLLMError,
        ModelError,
        ModelNotFound,
        NotEnoughMemory,
        RequestError,
    )
    from localllm.hardware.types import AdapterSpec
    from localllm.llm import LLM, ChatEvent, Done, Progress, ReasoningDelta, TextDelta, ToolCallDelta, load
    from localllm.runtime.backend import ModelInfo

__all__ = [
    "LLM",
    "AdapterSpec",
    "ChatEvent",
    "ContextLengthExceeded",
    "Done",
    "EngineError",
    "EngineStats",
    "InvalidGrammar",
    "LocalLLMError",
    "ModelError",
    "ModelInfo",
    "ModelNotFound",
    "NotEnoughMemory",
    "Progress",
    "ReasoningDelta",
    "RequestError",
    "TextDelta",
    "Timings",
    "ToolCallDelta",
    "Usage",
    "__version__",
    "load",
]

_HOMES = {
    "localllm.hardware.types": ("AdapterSpec",),
    "localllm.llm": ("LLM", "ChatEvent", "Done", "Progress", "ReasoningDelta", "TextDelta", "ToolCallDelta", "load"),
    "localllm.engine.events": ("Timings", "Usage"),
    "localllm.engine.stats": ("EngineStats",),
    "localllm.runtime.backend": ("ModelInfo",),
    "localllm.errors": (
        "ContextLengthExceeded",
        "EngineError",
        "InvalidGrammar",
        "LocalLLMError",
        "ModelError",
        "ModelNotFound",
        "NotEnoughMemory",
        "RequestError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
