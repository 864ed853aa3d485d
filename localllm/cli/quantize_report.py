"""`localllm quantize --report`: what was made, measured against what it was made of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli.files_report import FilesReport
from localllm.cli.output_files import STDOUT, check_writable, write_result
from localllm.errors import RequestError

if TYPE_CHECKING:
    from localllm.quantize import Quantized
    from localllm.workshop import MeasureRequest, MeasureWatcher

_SUFFIXES = (".md", ".json")


def check_report(report: str | None) -> None:
    """Refuse a --report that cannot be written.

    Raises:
        RequestError: its suffix is unknown, or its folder is not there.
    """
    if report is None or report == STDOUT:
        return
    if not report.endswith(_SUFFIXES):
        raise RequestError(
            f"--report is {report!r}; it must end in .md or .json.", hint="Put --report last to name no file."
        )
    check_writable(report, "--report")


class Reporter:
    """Measures a file that is about to be made of a source, and how much time and memory making it takes from now on.

    Raises:
        LocalLLMError: the source could not be measured later.
    """

    def __init__(self, source: Path, request: MeasureRequest, watcher: MeasureWatcher) -> None:
        from localllm.workshop import check_files

        check_files([source], request)
        self._source, self._request, self._watcher = source, request, watcher
        self._started = time.monotonic()

    def measure(self, made: Quantized, method: str) -> FilesReport:
        """Measure what has just been made."""
        from localllm.hardware.peak import peak_rss_bytes
        from localllm.workshop import measure_files

        elapsed_s, peak_bytes = time.monotonic() - self._started, peak_rss_bytes()
        found = measure_files([self._source, made.path], self._request, self._watcher)
        return FilesReport(found, {made.path: made}, method, elapsed_s, peak_bytes)


def write_report(found: FilesReport, report: str) -> None:
    """Write it to the file that --report names, if it names one.

    Raises:
        RequestError: it cannot be written.
    """
    if report != STDOUT:
        write_result(report, found.json() if report.endswith(".json") else found.markdown())
