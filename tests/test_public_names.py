"""The front door: what `import localllm` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import localllm

PUBLIC_NAMES = [
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


def test_public_names_are_these() -> None:
    assert localllm.__all__ == PUBLIC_NAMES
    assert set(PUBLIC_NAMES) <= set(dir(localllm))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_can_be_used(name: str) -> None:
    assert getattr(localllm, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = localllm.no_such_name


def test_import_brings_in_nothing_heavy() -> None:
    code = "import sys, localllm; print(*sorted(m for m in sys.modules if m.startswith('localllm')))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert names == ["localllm", "localllm._version"]
