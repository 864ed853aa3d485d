"""What `localllm eval` found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from localllm import __version__
from localllm.cli.numbers import NOTHING, estimate, json_text
from localllm.cli.tables import table
from localllm.evaluate import Divergence, Evaluation
from localllm.hardware.estimate import padded_n_ctx
from localllm.hardware.sizes import format_bytes

LOG_ROUNDING_BYTES = 0.01 * 1024**2
"""llama.cpp logs sizes to a hundredth of a MiB, for each device."""


@dataclass(frozen=True)
class Row:
    """One model with one pair of KV types. The first row of a report is the reference."""

    model: str
    kv_type_k: str
    kv_type_v: str
    is_control: bool
    """Without flash attention; its divergence is rounding."""
    kv_predicted_bytes: int
    """Of the KV cache, by the planner's formula."""
    n_ctx: int
    found: Evaluation

    @property
    def kv_types(self) -> str:
        name = self.kv_type_k if self.kv_type_k == self.kv_type_v else f"{self.kv_type_k},{self.kv_type_v}"
        return f"{name} (control)" if self.is_control else name

    @property
    def kv_bytes_per_token(self) -> int:
        return self.kv_predicted_bytes // padded_n_ctx(self.n_ctx)

    @property
    def is_as_planned(self) -> bool:
        """Whether llama.cpp allocated what the planner said, as far as its log tells."""
        return abs(self.found.kv_allocated_bytes - self.kv_predicted_bytes) <= LOG_ROUNDING_BYTES

    def fields(self) -> dict[str, Any]:
        found = asdict(self.found)
        return {
            "model": self.model,
            "kv_type_k": self.kv_type_k,
            "kv_type_v": self.kv_type_v,
            "is_control": self.is_control,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "kv_predicted_bytes": self.kv_predicted_bytes,
            "kv_allocated_bytes": found.pop("kv_allocated_bytes"),
            "prefill_tok_s": self.found.prefill_tok_s,
            **found,
        }


@dataclass(frozen=True)
class Report:
    """Everything that was measured, and on what."""

    rows: tuple[Row, ...]
    n_ctx: int
    n_chunks: int
    n_threads: int
    n_gpu_layers: int
    text: str = ""
    text_sha256: str = ""

    def named(self, name: str, text: str) -> Report:
        """Return the report with the text it was measured on."""
        return Report(
            self.rows,
            self.n_ctx,
            self.n_chunks,
            self.n_threads,
            self.n_gpu_layers,
            name,
            sha256(text.encode()).hexdigest(),
        )

    def json(self) -> str:
        """Return one JSON object; a number that is not finite is null."""
        from localllm.llama import build_info

        facts = {
            "version": __version__,
            "llama_cpp": build_info(),
            "text": self.text,
            "text_sha256": self.text_sha256,
            "n_ctx": self.n_ctx,
            "n_chunks": self.n_chunks,
            "n_threads": self.n_threads,
            "n_gpu_layers": self.n_gpu_layers,
            "rows": [row.fields() for row in self.rows],
        }
        return json_text(facts)

    def lines(self) -> Iterator[str]:
        """Yield the table, and all of the divergence where there is one only."""
        yield from table([_HEAD, *map(_cells, self.rows)], right=range(2, len(_HEAD)))
        others = [row for row in self.rows[1:] if not row.is_control]
        if len(others) == 1 and (divergence := others[0].found.divergence):
            yield ""
            yield from table(list(_details(divergence)))

    def remarks(self) -> Iterator[str]:
        """Yield what one must know to read the table."""
        yield f"{self.rows[0].found.n_scored} tokens scored, in {self.n_chunks} chunks of {self.n_ctx}."
        yield "± is one standard error; KLD in nats, from the first row; tok/s is what was seen, not a benchmark."
        if any(row.is_control for row in self.rows):
            yield "control is the first row again without flash attention: a KLD that is no larger is rounding."
        for row in self.rows:
            if not row.is_as_planned:
                found, planned = map(format_bytes, (row.found.kv_allocated_bytes, row.kv_predicted_bytes))
                yield f"{row.model}, {row.kv_types}: {found} of KV cache allocated, {planned} planned."


_HEAD = ("model", "KV", "KV B/token", "perplexity", "mean KLD", "99 % KLD", "same top", "tok/s")


def _cells(row: Row) -> tuple[str, ...]:
    found = row.found
    divergence = found.divergence
    return (
        row.model,
        row.kv_types,
        str(row.kv_bytes_per_token),
        estimate(found.perplexity, ".4f"),
        estimate(divergence.kl, ".6f") if divergence else NOTHING,
        f"{divergence.p99:.6f}" if divergence else NOTHING,
        f"{divergence.same_top.value:.2%}" if divergence else NOTHING,
        f"{found.prefill_tok_s:.1f}",
    )


def _details(divergence: Divergence) -> Iterator[tuple[str, str]]:
    yield "mean KLD", estimate(divergence.kl, ".6f")
    quantiles = {"median": "median", "90 %": "p90", "95 %": "p95", "99 %": "p99", "99.9 %": "p999", "maximum": "max"}
    for name, field in quantiles.items():
        yield f"{name} KLD", f"{getattr(divergence, field):.6f}"
    yield "same top token", estimate(divergence.same_top, ".3%")
    yield "mean Δp", estimate(divergence.delta_p_mean, ".3%")
    yield "RMS Δp", f"{divergence.delta_p_rms:.3%}"
    yield "ln(PPL/PPL ref)", estimate(divergence.log_perplexity_ratio, ".6f")
