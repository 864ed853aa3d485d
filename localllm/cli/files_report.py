"""What was measured of files of one model, for `bench` and `quantize --report`: table, Markdown, JSON, plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm import __version__
from localllm.cli.numbers import NOTHING, estimate, json_text
from localllm.cli.scatter_plot import Point, scatter_plot
from localllm.cli.tables import duration, size, table
from localllm.errors import RequestError

if TYPE_CHECKING:
    from localllm.evaluate.speed import Rate
    from localllm.quantize import Quantized
    from localllm.workshop import MeasuredFile, Measurements

_MB = 1e6


@dataclass(frozen=True)
class FilesReport:
    """Measurements, and how the files among them came to be that were made for it."""

    found: Measurements
    made: Mapping[Path, Quantized] = field(default_factory=dict)
    method: str | None = None
    """Of the files that were made."""
    elapsed_s: float | None = None
    """What making them took in all, the calibration included."""
    peak_bytes: int | None = None
    """Resident memory of the process that made them, at most."""

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        rows = self._rows()
        yield from table(rows, right=range(2, len(rows[0])))

    def markdown(self) -> str:
        """Return a table in Markdown, and below it what one must know to read it."""
        head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in self._rows()]
        marks = ["---", "---", *["---:"] * (len(head) - 2)]
        lines = [f"| {' | '.join(row)} |" for row in (head, marks, *rows)]
        return "\n".join([*lines, "", *self.remarks()]) + "\n"

    def json(self) -> str:
        """Return one JSON object."""
        return json_text(self.fields())

    def fields(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        from localllm.llama import build_info

        return {
            "version": __version__,
            "llama_cpp": build_info(),
            "texts": list(self.found.text_names),
            "text_sha256": self.found.text_sha256,
            "n_ctx": self.found.n_ctx,
            "n_chunks": self.found.n_chunks,
            "n_threads": self.found.n_threads,
            "n_gpu_layers": self.found.n_gpu_layers,
            "method": self.method,
            "elapsed_s": self.elapsed_s,
            "peak_bytes": self.peak_bytes,
            "files": [self._fields_of(file) for file in self.found.files],
        }

    def remarks(self) -> Iterator[str]:
        """Yield what one must know to read the table."""
        found = self.found
        n_scored = found.files[0].evaluation.n_scored
        yield (
            f"{n_scored} tokens scored, in {found.n_chunks} chunks of {found.n_ctx}, of {', '.join(found.text_names)}."
        )
        yield "± is one standard error; KLD in nats, from the first row."
        if self.made:
            yield f"made in: by {self.method}, without the calibration."
        speed = found.files[0].speed
        if speed is not None:
            work = f"{speed.n_prompt} tokens at once, then {speed.n_generated} one by one"
            where = f"{found.n_threads} threads, {found.n_gpu_layers} layers on a GPU"
            yield f"tok/s: median of {speed.n_rounds} rounds in turns, and the quartiles; {work}; {where}."
        if self.elapsed_s is not None and self.peak_bytes is not None:
            yield f"In all, making it took {duration(self.elapsed_s)} and at most {size(self.peak_bytes)} of memory."

    def plot(self) -> str:
        """Return an SVG of size against divergence.

        Raises:
            RequestError: no file differs from the reference.
        """
        points = [
            Point(self._name(file), file.n_bytes / _MB, divergence.kl.value, is_marked=file.path not in self.made)
            for file in self.found.files
            if (divergence := file.evaluation.divergence) is not None and divergence.kl.value > 0
        ]
        if not points:
            raise RequestError("No file differs from the reference, so there is nothing to plot.", hint="Add a type.")
        reference = self.found.files[0].path.name
        return scatter_plot(f"Divergence from {reference}", "size in MB", "mean KL divergence in nats", points)

    def _name(self, file: MeasuredFile) -> str:
        return file.type_name if file.path in self.made else file.path.stem

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the head and the cells, without columns that are empty."""
        columns = [(title, *(cell(file) for file in self.found.files)) for title, cell in self._columns()]
        kept = [column for column in columns if any(cell != NOTHING for cell in column[1:])]
        return list(zip(*kept, strict=True))

    def _columns(self) -> Iterator[tuple[str, Callable[[MeasuredFile], str]]]:
        yield "file", lambda file: file.path.name
        yield "type", lambda file: file.type_name
        yield "bytes", lambda file: f"{file.n_bytes:,}"
        yield "bits/weight", lambda file: f"{file.bpw:.2f}"
        yield "perplexity", lambda file: estimate(file.evaluation.perplexity, ".3f")
        yield "mean KLD", lambda file: _divergence(file, lambda found: estimate(found.kl, ".4f"))
        yield "99 % KLD", lambda file: _divergence(file, lambda found: f"{found.p99:.3f}")
        yield "same top", lambda file: _divergence(file, lambda found: f"{found.same_top.value:.1%}")
        yield "prompt tok/s", lambda file: NOTHING if file.speed is None else _rate(file.speed.prompt)
        yield "generation tok/s", lambda file: NOTHING if file.speed is None else _rate(file.speed.generation)
        yield "made in", lambda file: f"{self.made[file.path].elapsed_s:.0f} s" if file.path in self.made else NOTHING

    def _fields_of(self, file: MeasuredFile) -> dict[str, Any]:
        made = self.made.get(file.path)
        evaluation = file.evaluation
        return {
            "file": file.path.name,
            "type": file.type_name,
            "n_bytes": file.n_bytes,
            "n_params": file.n_params,
            "bpw": file.bpw,
            "n_scored": evaluation.n_scored,
            "perplexity": asdict(evaluation.perplexity),
            "divergence": None if evaluation.divergence is None else asdict(evaluation.divergence),
            "speed": None if file.speed is None else asdict(file.speed),
            "made_in_s": None if made is None else made.elapsed_s,
        }


def _divergence(file: MeasuredFile, cell: Callable[[Any], str]) -> str:
    return NOTHING if file.evaluation.divergence is None else cell(file.evaluation.divergence)


def _rate(rate: Rate) -> str:
    return f"{rate.median:.1f} ({rate.low:.1f}–{rate.high:.1f})"
