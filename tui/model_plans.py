"""Whether models fit this machine, and how fast they would be: worked out on threads, and kept until memory changes.

Files on this disk are judged by their headers, models of the catalog by its numbers, what the hub found by its size
alone. The speed is known where this machine was measured for such a model; `report` can do that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.config import Settings
from localllm.errors import LocalLLMError, NotEnoughMemory
from localllm.hardware.sizes import format_bytes
from tui.model_rows import ModelRow

if TYPE_CHECKING:
    from localllm.hardware.types import LoadOptions
    from localllm.runtime.planning import PlanReport

_MORE_BYTES = 512 << 20
_MORE_SHARE = 1.1
"""What a model takes beside its weights, where nothing but their size is known."""
_FLAGS = (
    (r"--kv-type (\S+)", r"\1 KV"),
    (r"--n-ctx (\d+)", r"context \1"),
    (r"--gpu-layers auto", "fewer GPU layers"),
    (r"without --draft-model", "no draft model"),
)
"""What an alternative is called where there are no flags to give."""


@dataclass(frozen=True)
class Verdict:
    """Whether a model fits, in words."""

    fits: bool | None
    """None: it cannot be said."""
    text: str
    """ "fits", "fits with q8_0 KV", "too large: needs 21.4 GiB"."""
    short: str
    """The same in at most ten letters or so."""
    n_ctx: int | None = None
    """Tokens that the plan has room for."""
    tok_s: float | None = None
    """Foretold tokens a second; None where it was not measured."""


UNKNOWN = Verdict(None, "–", "–")
Report = Callable[..., "PlanReport"]
"""Plans to load a file; `localllm.runtime.planning.plan_report`. Tests script one."""


class Plans:
    """Judges models, and remembers. `judge`, `report` and `judge_size` are slow: call them on a thread."""

    def __init__(self, settings: Settings, report: Report | None = None) -> None:
        self.settings = settings
        """As they are now."""
        self._report = report
        self._verdicts: dict[str, Verdict] = {}
        self._fresh: set[str] = set()
        self._measured: dict[str, PlanReport] = {}

    def known(self, row: ModelRow) -> Verdict | None:
        """Return what was found out of a model already."""
        return self._verdicts.get(row.key)

    @property
    def too_large(self) -> frozenset[str]:
        """The keys of the models that do not fit."""
        return frozenset(key for key, verdict in self._verdicts.items() if verdict.fits is False)

    def is_fresh(self, row: ModelRow) -> bool:
        """Tell whether a model was judged since files or memory changed."""
        return row.key in self._fresh

    def is_measured(self, row: ModelRow) -> bool:
        """Tell whether a model's whole plan, with its speed, is at hand."""
        return row.key in self._measured

    def age(self) -> None:
        """Judge anew, since files or free memory changed; what was found out serves until then."""
        self._fresh.clear()
        self._measured.clear()

    def judge(self, rows: Iterable[ModelRow]) -> None:
        """Find out whether models fit; `known` has it then."""
        for row in rows:
            if row.key not in self._fresh:
                self._verdicts[row.key] = self._judge(row)
                self._fresh.add(row.key)

    def report(self, row: ModelRow, *, measures: bool) -> PlanReport:
        """Return the whole plan of a model; of one that is not here, by the header of its file on the web.

        Args:
            row: the model.
            measures: measure this machine's speed, which takes seconds.

        Raises:
            LocalLLMError: it cannot be planned.
        """
        if not measures and row.key in self._measured:
            return self._measured[row.key]
        with _header_of(row) as path:
            report = self._plan(path, measures=measures, files=_other_files(row))
        self._verdicts[row.key] = _of_report(report)
        self._fresh.add(row.key)
        if measures:
            self._measured[row.key] = report
        return report

    def judge_size(self, row: ModelRow, n_bytes: int) -> Verdict:
        """Return the verdict on a file of a model, of which only the size is known."""
        from localllm.runtime.catalog_plan import plan_entry

        prospect = plan_entry(row.entry, n_bytes, self._options()) if row.entry is not None else None
        if prospect is None:
            return _by_size(n_bytes)
        if prospect.chosen is not None:
            return Verdict(True, "fits", "fits", prospect.chosen.n_ctx)
        assert prospect.refusal is not None
        return _refused(prospect.refusal, [other.flags for other in prospect.others])

    def _judge(self, row: ModelRow) -> Verdict:
        try:
            if row.is_adapter:
                return Verdict(None, "an adapter, for a model", "adapter")
            if row.path is not None:
                return _of_report(self._plan(row.path, measures=False))
            return self.judge_size(row, row.n_bytes) if row.n_bytes else UNKNOWN
        except LocalLLMError as error:
            return Verdict(None, f"cannot be loaded: {error.message}", "damaged")

    def _plan(self, path: Path, *, measures: bool, files: Mapping[str, int] | None = None) -> PlanReport:
        from localllm.runtime.planning import plan_report

        return (self._report or plan_report)(path, self._options(), files=files, measures=measures, recalls=True)

    def _options(self) -> LoadOptions:
        from localllm.hardware.types import LoadOptions

        settings = self.settings
        kinds: Any = settings.kv_types
        return LoadOptions(
            n_ctx=settings.n_ctx,
            gpu_layers=settings.gpu_layers,
            n_slots=1,
            n_threads=settings.threads,
            kv_type_k=kinds[0],
            kv_type_v=kinds[1],
        )


def _other_files(row: ModelRow) -> dict[str, int]:
    """Return the bytes of the model's other quantizations, where the catalog knows them, by what they are called."""
    if row.entry is None:
        return {}
    sizes = {tag: row.entry.n_bytes(tag) or 0 for tag in row.entry.tags if tag != row.quantization}
    return {f"{row.entry.name}:{tag}": n_bytes for tag, n_bytes in sizes.items() if n_bytes}


def other_way(flags: str) -> str:
    """Return what an alternative's flags mean, such as "q8_0 KV"."""
    found = [re.sub(pattern, words, match[0]) for pattern, words in _FLAGS if (match := re.search(pattern, flags))]
    return ", ".join(found) or flags


@contextmanager
def _header_of(row: ModelRow) -> Iterator[Path]:
    """Have a file with the model's header: the model itself, or what the hub sends of it."""
    with ExitStack() as stack:
        if row.path is not None:
            yield row.path
            return
        from localllm.hub.addresses import remote_file
        from localllm.hub.catalog import repo_ref
        from localllm.hub.refs import NameRef, RepoRef
        from localllm.hub.remote_header import remote_header

        ref = repo_ref(NameRef(row.entry.name)) if row.entry is not None else RepoRef(row.repo)
        yield stack.enter_context(remote_header(remote_file(ref)))


def _of_report(report: PlanReport) -> Verdict:
    if report.chosen is not None:
        speed = report.chosen.speed
        return Verdict(True, "fits", "fits", report.chosen.plan.n_ctx, None if speed is None else speed.decode_tok_s)
    assert report.refusal is not None
    return _refused(report.refusal, [other.flags for other in report.others])


def _refused(refusal: NotEnoughMemory, others: list[str]) -> Verdict:
    if others:
        way = other_way(others[0])
        return Verdict(True, f"fits with {way}", way)
    needs = re.split("[,;]", refusal.message)[0]
    return Verdict(False, f"too large: {needs[:1].lower()}{needs[1:]}", "too large")


def _by_size(n_bytes: int) -> Verdict:
    from localllm.hardware import available_ram_bytes
    from localllm.hardware.placement import offload_devices
    from localllm.llama import list_devices

    needed = int(n_bytes * _MORE_SHARE) + _MORE_BYTES
    free = available_ram_bytes() + sum(
        device.memory_free_bytes for device in offload_devices(list_devices()) if device.kind == "gpu"
    )
    if needed <= free:
        return Verdict(True, "should fit", "fits?")
    return Verdict(False, f"too large: needs ~{format_bytes(needed)}", "too large")
