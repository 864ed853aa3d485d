"""A plot as a file: SVG as it is, PNG where resvg is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from localllm.cli.output_files import check_writable, write_result
from localllm.errors import RequestError

_SUFFIXES = (".svg", ".png")
_PNG_SCALE = 2
"""Pixels for a unit of the SVG."""


def check_plot(path: Path | None) -> None:
    """Refuse now a plot that could not be written.

    Raises:
        RequestError: its suffix is unknown, what draws PNG is not installed, or its folder is not there.
    """
    if path is None:
        return
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise RequestError(f"--plot is {path}; it must end in .svg or .png.", hint="Such as sizes.svg.")
    if suffix == ".png" and find_spec("resvg_py") is None:
        raise RequestError(
            "What draws PNG is not installed.", hint="Name a .svg file, or run: pip install 'localllm[png]'"
        )
    check_writable(path, "--plot")


def write_plot(path: Path, svg: str) -> None:
    """Write an SVG, drawn as pixels if the name ends in .png.

    Raises:
        RequestError: it cannot be written.
    """
    write_result(path, _png(svg) if path.suffix.lower() == ".png" else svg)


def _png(svg: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=_PNG_SCALE))
