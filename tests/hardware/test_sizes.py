from __future__ import annotations

import pytest

from localllm.hardware import format_bytes


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (int(21.4 * 1024**3), "21.4 GiB"),
        (16 * 1024**3, "16.0 GiB"),
        (5 * 1024**5, "5.0 PiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_bytes_are_written_in_the_largest_unit(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text
