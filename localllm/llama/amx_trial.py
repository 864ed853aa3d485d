"""Multiplies two matrices by llama.cpp's AMX kernels: a process of its own, since it may not outlive that."""

from __future__ import annotations

from localllm.llama.kernels import Bench, Product

_N_IN, _N_OUT, _N_COLS = 256, 64, 32
"""Enough columns that tiles are used; fewer are computed without."""


def main() -> None:
    """Multiply, as a prompt is read."""
    with Bench("CPU", 1) as bench:
        bench.products_s([Product("q8_0", _N_IN, _N_OUT, is_repacked=True)], _N_COLS, woven="AMX")


if __name__ == "__main__":
    main()
