"""The screen of models: what is on this disk and what could be, in one list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Static

from localllm.errors import LocalLLMError
from tui.downloads import Download
from tui.model_plans import Plans, Verdict
from tui.model_rows import Filter, ModelRow, Shelf, found_rows, read_shelf
from tui.model_texts import clean, share_text, size_text
from tui.screens.model_deeds import ModelDeeds
from tui.screens.model_details import ModelDetailsScreen
from tui.threads import on_a_thread
from tui.widgets.download_list import DownloadList
from tui.widgets.model_details import ModelDetails
from tui.widgets.model_filters import ModelFilters
from tui.widgets.model_table import ModelTable

_N_JUDGED = 8
"""Models whose verdicts are shown together."""
N_FOUND = 50
"""Repositories that are asked for at most."""
WIDE = 130
"""Columns of the terminal from which on details are beside the list."""


class ModelsScreen(ModelDeeds):
    """What is on this disk and what could be, in one list."""

    MODE = "models"

    DEFAULT_CSS = """
    ModelsScreen {
        #models-left { width: 1fr; height: 1fr; }
        #models-body { height: 1fr; }
        #models-state { height: auto; max-height: 3; color: $text-muted; padding: 0 1; }
        #model-details { display: none; width: 52; border-left: vkey $border; }
        &.-wide #model-details { display: block; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", id="models.search", key_display="/"),
        Binding("h", "search_hub", "Hub", id="models.hub", tooltip="Look on the hub for these words"),
        Binding("o", "next_source", "Here/catalog/hub", id="models.source", show=False),
        Binding("k", "next_kind", "Kind", id="models.kind", show=False),
        Binding("f", "toggle_fitting", "Only what fits", id="models.fitting", show=False),
        Binding("m", "measure", "Measure", id="models.measure", show=False, tooltip="Foretell this model's speed"),
        Binding("ctrl+l", "refresh_models", "Refresh", id="models.refresh", show=False),
        Binding("escape", "back", "Back to the list", id="models.back", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._shelf = Shelf()
        self._is_read = False
        self._wanted = ""
        self._judging: set[str] = set()

    def compose_body(self) -> ComposeResult:
        self.plans = Plans(self.services.settings)
        yield ModelFilters()
        with Horizontal(id="models-body"):
            with Vertical(id="models-left"):
                yield ModelTable()
                yield Static("", id="models-state", markup=False)
                yield DownloadList()
            yield ModelDetails(self.plans)

    def on_mount(self) -> None:
        self.query_one(ModelTable).focus()
        self.query_one(ModelTable).loading = True
        self.services.downloads.restore()
        self._show_downloads()
        self.action_refresh_models()

    @property
    def chosen(self) -> ModelRow | None:
        return self.query_one(ModelTable).chosen

    @property
    def chosen_download(self) -> Download | None:
        downloads, shown = self.services.downloads, self.query_one(DownloadList)
        if shown.has_focus and shown.chosen is not None:
            return downloads.get(shown.chosen)
        of_row = self._download_of(self.chosen) if self.chosen is not None else None
        return of_row or (downloads.all[0] if len(downloads.all) == 1 else None)

    async def choose(self, ref: str) -> None:
        """Put the cursor on a model that is here, by its name or its path, once it is seen."""
        self._wanted = ref
        self.query_one(ModelFilters).chosen = Filter()
        self.query_one(ModelFilters).clear()
        self.action_refresh_models()

    def say(self, text: str) -> None:
        self.query_one("#models-state", Static).update(text or self._counts())

    def action_refresh_models(self) -> None:
        """Look again at the disk, and at the memory that is free."""
        self.plans.age()
        self.run_worker(self._read(), group="read", exclusive=True)

    def action_search(self) -> None:
        self.query_one(ModelFilters).focus_search()

    def action_next_source(self) -> None:
        self.query_one(ModelFilters).next_source()

    def action_next_kind(self) -> None:
        self.query_one(ModelFilters).next_kind()

    def action_toggle_fitting(self) -> None:
        filters = self.query_one(ModelFilters)
        filters.chosen = replace(filters.chosen, only_fitting=not filters.chosen.only_fitting)

    def action_back(self) -> None:
        """Go back to the list; from there, forget the words."""
        table = self.query_one(ModelTable)
        if table.has_focus:
            self.query_one(ModelFilters).clear()
        table.focus()

    def action_search_hub(self) -> None:
        filters = self.query_one(ModelFilters)
        filters.chosen = replace(filters.chosen, source="hub")
        if filters.chosen.words.strip():
            self.run_worker(self._search_hub(filters.chosen.words.strip()), group="hub", exclusive=True)
        else:
            filters.focus_search()

    def action_details(self) -> None:
        row = self.chosen
        if row is None:
            return
        if self.has_class("-wide"):
            self.query_one(ModelDetails).focus()
            return

        async def do(action: str | None) -> None:
            if action is not None:
                await self.run_action(action)
            self._update(row)

        self.app.push_screen(ModelDetailsScreen(row, self.plans), do)

    def action_measure(self) -> None:
        row = self.chosen
        if row is None or row.is_adapter:
            return
        self.run_worker(self._measure(row), group="measure", exclusive=True)

    def on_models_changed(self) -> None:
        self.action_refresh_models()

    def on_settings_changed(self) -> None:
        self.plans.settings = self.services.settings
        self.action_refresh_models()

    def on_download_changed(self) -> None:
        self._show_downloads()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= WIDE, "-wide")
        self._show_details()

    def on_model_filters_changed(self) -> None:
        if self._is_read:
            self._show_rows()
            if self._filter.only_fitting:
                self._judge([*self._shelf.here, *self._shelf.catalog])

    def on_model_filters_submitted(self) -> None:
        if self._filter.source == "hub":
            self.action_search_hub()
        self.query_one(ModelTable).focus()

    def on_model_table_in_view(self) -> None:
        self._judge(self.query_one(ModelTable).rows_in_view)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._show_details()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_details()

    @property
    def _filter(self) -> Filter:
        return self.query_one(ModelFilters).chosen

    async def _read(self) -> None:
        shelf = await asyncio.to_thread(read_shelf, self.services.settings.model_dirs)
        is_first, self._is_read = not self._is_read, True
        self._shelf = replace(shelf, hub=self._shelf.hub)
        self.query_one(ModelTable).loading = False
        self._show_rows()
        if is_first:
            self.query_one(ModelTable).focus()
        self._judge(self._shelf.catalog)

    async def _search_hub(self, words: str) -> None:
        from localllm.hub.client import HubClient

        self.say(f"Asking the hub for {clean(words, 60)}…")
        try:
            found = await on_a_thread(lambda: HubClient().search(words, limit=N_FOUND))
        except LocalLLMError as error:
            self.say(f"{error.message} {error.hint or ''}".rstrip())
            return
        self._shelf = replace(self._shelf, hub=found_rows(found, self._shelf.here))
        self._show_rows()
        self.query_one(ModelTable).focus()
        if not found:
            self.say(f"The hub has nothing for {clean(words, 60)}. Try fewer words.")

    async def _measure(self, row: ModelRow) -> None:
        self.say(f"Measuring how fast {clean(row.ref)} would be…")
        try:
            await on_a_thread(lambda: self.plans.report(row, measures=True))
        except LocalLLMError as error:
            self.say(f"{error.message} {error.hint or ''}".rstrip())
            return
        self.say("")
        self._update(row)
        if self.has_class("-wide") and self.chosen == row:
            self.query_one(ModelDetails).show(row, again=True)

    def _judge(self, rows: Sequence[ModelRow]) -> None:
        """Have the planner look at models that it has not seen."""
        waiting = [row for row in rows if not self.plans.is_fresh(row) and row.key not in self._judging]
        if waiting:
            self._judging |= {row.key for row in waiting}
            self.run_worker(self._judge_all(waiting), group="judge")

    async def _judge_all(self, rows: list[ModelRow]) -> None:
        try:
            for start in range(0, len(rows), _N_JUDGED):
                some = rows[start : start + _N_JUDGED]
                await asyncio.to_thread(self.plans.judge, some)
                for row in some:
                    self._update(row)
        finally:
            self._judging -= {row.key for row in rows}
        table, wanted = self.query_one(ModelTable), self._rows()
        if [row.key for row in wanted] != table.keys:
            self._show_rows()

    def _update(self, row: ModelRow) -> None:
        self.query_one(ModelTable).update_model(row)

    def _rows(self) -> list[ModelRow]:
        return self._shelf.rows(self._filter, self.plans.too_large)

    def _show_rows(self) -> None:
        rows = self._rows()
        wanted = next((row.key for row in rows if self._wanted and self._wanted in _names(row)), None)
        if wanted is not None:
            self._wanted = ""
        self.query_one(ModelTable).show(rows, self._verdict_of, self._shares(), chosen=wanted)
        self.say("")
        self._show_details()

    def _verdict_of(self, row: ModelRow) -> Verdict | None:
        return self.plans.known(row)

    def _show_details(self) -> None:
        if self.has_class("-wide") and self._is_read:
            self.query_one(ModelDetails).show(self.chosen)

    def _show_downloads(self) -> None:
        self.query_one(DownloadList).show(self.services.downloads.all)
        self.query_one(ModelTable).show_downloads(self._shares())

    def _shares(self) -> dict[str, str]:
        """Return how far downloads are, by the keys of their models."""
        found = {}
        for row in (*self._shelf.here, *self._shelf.catalog, *self._shelf.hub):
            download = self._download_of(row)
            if download is not None and download.phase != "done" and not row.is_here:
                share = "…" if download.share is None else share_text(download.share)
                found[row.key] = {"fetching": f"↓ {share}", "paused": f"paused {share}"}.get(download.phase, "failed")
        return found

    def _download_of(self, row: ModelRow) -> Download | None:
        """Return the download that brings a model."""
        heads = tuple(f"{head}{end}" for head in (row.ref, row.repo, f"hf://{row.repo}") if head for end in ":/@")
        return next((one for one in self.services.downloads.all if f"{one.ref}:".startswith(heads)), None)

    def _counts(self) -> str:
        """Return how many models there are, or what to do where there are none."""
        here, shown = self._shelf.here, self._rows()
        parts = []
        if not self._is_read:
            return "Looking…"
        if not here:
            parts.append("No model is here yet. p fetches one; the smallest good ones come first.")
        elif not shown and self._filter.source != "hub":
            parts.append("No model fits this search. Esc clears it; h looks on the hub.")
        else:
            total = size_text(sum(row.n_bytes or 0 for row in here))
            parts.append(f"{len(here)} here, {total} · {len(self._shelf.catalog)} in the catalog · {len(shown)} shown")
        if self._filter.source == "hub" and not self._shelf.hub:
            parts = ["Type some words of a model's name, then Enter: the hub is asked for them."]
        return " ".join((*parts, *self._shelf.problems))


def _names(row: ModelRow) -> tuple[str, ...]:
    """Return all that a model may be called."""
    return (row.ref, *((str(row.path), *row.stored.names) if row.stored is not None else ()))
