"""Fixtures: tiny decoders, written once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from localllm.gguf import GGUFHeader, read_header
from tests.gradients.tiny_decoders import CASES, write_tiny_decoder

Written = Callable[[str], GGUFHeader]
NAMES = [case.name for case in CASES]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Return the header of a case's model."""
    folder, cases = tmp_path_factory.mktemp("decoders"), {case.name: case for case in CASES}

    def written(name: str) -> GGUFHeader:
        path = folder / f"{name}.gguf"
        return read_header(path if path.exists() else write_tiny_decoder(path, cases[name]))

    return written


@pytest.fixture(scope="session")
def tokens() -> np.ndarray:
    """Three chunks of 12 tokens."""
    return np.random.default_rng(5).integers(0, 256, (3, 12), dtype=np.int32)
