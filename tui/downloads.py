"""The downloads of this app: several at once, paused and resumed, whatever screen is shown.

What has come lies where `localllm pull` keeps it, so each of the two goes on where the other ended. Which downloads are
unfinished is written down, and the next start of the app shows them paused. This module knows no widgets: it tells a
listener that something changed, and the listener looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from localllm import paths
from localllm.errors import LocalLLMError, RequestError
from tui.threads import on_a_thread, teller

if TYPE_CHECKING:
    from localllm.hub.meter import PullProgress
    from localllm.hub.pulled import Pulled, PullOptions

Phase = Literal["fetching", "paused", "failed", "done"]
_SUFFIXES = (".incomplete", ".partial")
"""Of files that are still coming."""
FILE_NAME = "downloads.json"
_END_S = 0.5
"""How long the end of the app waits for downloads to end; what they wrote is sound at any moment."""


@dataclass(frozen=True)
class Download:
    """One download at one moment."""

    id: int
    ref: str
    """What is fetched, as `localllm pull` takes it."""
    phase: Phase
    n_done_bytes: int = 0
    n_total_bytes: int | None = None
    bytes_s: float = 0.0
    left_s: float | None = None
    note: str = ""
    """What is unusual: another program fetches the same, the server is slow."""
    error: LocalLLMError | None = None
    """Why it failed."""
    path: Path | None = None
    """Where the model is, once it is done."""
    partials: frozenset[Path] = frozenset()
    """Where the bytes lie meanwhile."""

    @property
    def share(self) -> float | None:
        """How much of it is here, 0 to 1; None where the server does not say how much there is."""
        return min(1.0, self.n_done_bytes / self.n_total_bytes) if self.n_total_bytes else None


@dataclass
class _Run:
    """One attempt, which a pause ends."""

    stop: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[None] | None = None


def _nobody(_: Download) -> None:
    pass


class Downloads:
    """Starts, pauses and ends downloads. All methods are called on the interface's thread.

    Args:
        changed: called with a download that changed, on the interface's thread.
        options: how files are fetched; None: as `localllm pull` does.
    """

    def __init__(self, changed: Callable[[Download], None] = _nobody, options: PullOptions | None = None) -> None:
        self._changed = changed
        self.options = options
        """Of downloads that begin from now on."""
        self._downloads: dict[int, Download] = {}
        self._runs: dict[int, _Run] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        """Attempts that were ended, and may still be at it."""
        self._n_made = 0
        self._is_restored = False

    @property
    def all(self) -> tuple[Download, ...]:
        """All downloads that were not taken off the list, oldest first."""
        return tuple(self._downloads.values())

    @property
    def texts(self) -> tuple[str, ...]:
        """What is going on, for a line that is seen everywhere: "↓ 43 %"."""
        running = [one for one in self._downloads.values() if one.phase == "fetching"]
        failed = any(one.phase == "failed" for one in self._downloads.values())
        total = sum(one.n_total_bytes or 0 for one in running)
        share = f" {sum(one.n_done_bytes for one in running) / total:.0%}".replace("%", " %") if total else ""
        number = f" {len(running)}:" if len(running) > 1 else ""
        return ((f"↓{number}{share or ' …'}",) if running else ()) + (("↓ failed",) if failed else ())

    def get(self, download_id: int) -> Download | None:
        return self._downloads.get(download_id)

    def start(self, ref: str) -> Download:
        """Fetch a model; one whose download is on the list goes on."""
        known = next((one for one in self.all if one.ref == ref and one.phase != "done"), None)
        if known is not None:
            self.resume(known.id)
            return self._downloads[known.id]
        self._n_made += 1
        download = self._downloads[self._n_made] = Download(self._n_made, ref, "fetching")
        self._begin(download.id)
        return self._downloads[download.id]

    def pause(self, download_id: int) -> None:
        """Let a download rest. What came is kept."""
        if self._end_run(download_id) is not None:
            self._set(download_id, phase="paused", bytes_s=0.0, left_s=None, note="")
            self._remember()

    def resume(self, download_id: int) -> None:
        """Go on with a download that rests or failed, where it was."""
        download = self._downloads.get(download_id)
        if download is not None and download.phase in ("paused", "failed"):
            self._begin(download_id)

    async def cancel(self, download_id: int, *, keeps_bytes: bool) -> None:
        """End a download and take it off the list; what came is kept for another time, or deleted."""
        run = self._end_run(download_id)
        download = self._downloads.pop(download_id, None)
        if run is not None and run.task is not None:
            await asyncio.wait([run.task])
        if download is None:
            return
        if not keeps_bytes and download.phase != "done":
            await asyncio.to_thread(_delete, download.partials)
        self._remember()
        self._changed(download)

    def restore(self) -> None:
        """Put the downloads that an earlier run of the app left unfinished on the list, paused."""
        if self._is_restored:
            return
        self._is_restored = True
        for fields in _read(paths.data_dir() / FILE_NAME):
            if all(one.ref != fields["ref"] for one in self.all):
                self._n_made += 1
                self._downloads[self._n_made] = Download(self._n_made, phase="paused", **fields)
                self._changed(self._downloads[self._n_made])

    async def close(self) -> None:
        """Let all downloads rest."""
        running = [*self._runs]
        tasks = [run.task for one in running if (run := self._end_run(one)) and run.task]
        for one in running:
            self._downloads[one] = replace(self._downloads[one], phase="paused")
        if tasks:
            self._remember()
            await asyncio.wait(tasks, timeout=_END_S)

    def _begin(self, download_id: int) -> None:
        run = self._runs[download_id] = _Run()
        self._set(download_id, phase="fetching", error=None, note="")
        self._remember()
        run.task = asyncio.create_task(self._fetch(download_id, run))

    def _end_run(self, download_id: int) -> _Run | None:
        run = self._runs.pop(download_id, None)
        if run is not None:
            run.stop.set()
            if run.task is not None:
                self._ending[download_id] = run.task
        return run

    async def _fetch(self, download_id: int, run: _Run) -> None:
        from localllm.hub.transfer import Stopped

        before = self._ending.pop(download_id, None)
        if before is not None:
            await asyncio.wait([before])
        if self._runs.get(download_id) is not run:
            return
        ref = self._downloads[download_id].ref
        options = self._listening(download_id, run)
        try:
            pulled = await on_a_thread(lambda: _pull(ref, options))
        except Stopped:
            return
        except LocalLLMError as error:
            end: dict[str, Any] = {"phase": "failed", "error": error}
        except OSError as error:
            reason = error.strerror or type(error).__name__
            end = {"phase": "failed", "error": RequestError(f"The download broke: {reason}.", hint="Try again.")}
        else:
            size = {"n_done_bytes": pulled.n_bytes, "n_total_bytes": pulled.n_bytes}
            end = {"phase": "done", "path": pulled.path, **size}
        if self._runs.get(download_id) is run:
            del self._runs[download_id]
            self._set(download_id, bytes_s=0.0, left_s=None, **{"note": "", **end})
            self._remember()

    def _listening(self, download_id: int, run: _Run) -> PullOptions:
        """Return the options of one attempt, which tells the interface's thread how far it is."""
        from localllm.hub.pulled import PullOptions

        heard = teller(self._heard)

        def tell(**fields: Any) -> None:
            heard(download_id, run, fields)

        def progressed(progress: PullProgress) -> None:
            tell(
                n_done_bytes=progress.n_done_bytes,
                n_total_bytes=progress.n_total_bytes,
                bytes_s=progress.bytes_s,
                left_s=progress.left_s,
                note="",
            )

        return replace(
            self.options or PullOptions(),
            on_progress=progressed,
            on_note=lambda note: tell(note=note),
            on_partial=lambda path: tell(partial=path),
            stop=run.stop,
        )

    def _heard(self, download_id: int, run: _Run, fields: dict[str, Any]) -> None:
        download = self._downloads.get(download_id)
        if download is None or ("partial" not in fields and self._runs.get(download_id) is not run):
            return
        if "partial" in fields:
            fields = {"partials": download.partials | {fields["partial"]}}
        self._set(download_id, **fields)

    def _set(self, download_id: int, **fields: Any) -> None:
        self._downloads[download_id] = replace(self._downloads[download_id], **fields)
        self._changed(self._downloads[download_id])

    def _remember(self) -> None:
        """Write down what is unfinished, so that a killed app knows it too."""
        unfinished = [one for one in self._downloads.values() if one.phase != "done"]
        _write(paths.data_dir() / FILE_NAME, unfinished)


def _pull(ref: str, options: PullOptions) -> Pulled:
    from localllm.hub.pull import pull
    from localllm.hub.refs import parse_ref

    return pull(parse_ref(ref), options)


def _delete(partials: Iterable[Path]) -> None:
    for path in partials:
        if path.suffix not in _SUFFIXES:
            continue
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(file.read_bytes())
        return [
            {
                "ref": str(one["ref"]),
                "n_done_bytes": int(one["n_done_bytes"]),
                "n_total_bytes": None if one["n_total_bytes"] is None else int(one["n_total_bytes"]),
                "partials": frozenset(Path(path) for path in one["partials"]),
            }
            for one in found
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def _write(file: Path, unfinished: Iterable[Download]) -> None:
    content = [
        {
            "ref": one.ref,
            "n_done_bytes": one.n_done_bytes,
            "n_total_bytes": one.n_total_bytes,
            "partials": sorted(map(str, one.partials)),
        }
        for one in unfinished
    ]
    # Without the list, a pull of the same name still goes on where it was; so a full disk is not told of twice.
    with contextlib.suppress(OSError, LocalLLMError):
        if not content:
            file.unlink(missing_ok=True)
            return
        paths.ensure(file.parent)
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(file)
