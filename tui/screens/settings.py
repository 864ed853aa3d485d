"""Settings (F7): each with its value, where that is from, and what it means; all can be changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from localllm import paths
from localllm.config import Settings
from localllm.errors import LocalLLMError
from localllm.settings_file import SettingsFile
from tui.messages import SettingsChanged
from tui.screens.edit_setting import EditSetting
from tui.screens.mode import ModeScreen
from tui.settings_edit import GROUPS, KEYMAP, group_of, overrides, where_from, write_setting
from tui.widgets.filter_list import FilterList, Row

WIDE = 110
"""Columns from which on there is room for the explanation beside the list."""


class SettingsScreen(ModeScreen):
    """A list of all settings, and what the one at the cursor means."""

    MODE = "settings"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    DEFAULT_CSS = """
    SettingsScreen {
        #settings { height: 1fr; layout: vertical; }
        #settings FilterList { height: 1fr; }
        #setting-about { height: 7; padding: 0 1; background: $surface; border-top: solid $border-blurred; }
        &.-wide #settings { layout: horizontal; }
        &.-wide #settings FilterList { width: 3fr; }
        &.-wide #setting-about {
            width: 2fr;
            height: 1fr;
            padding: 1 2;
            border-top: none;
            border-left: solid $border-blurred;
        }
        #setting-name { color: $primary; text-style: bold; }
        .-quiet { color: $text-muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "edit", "Change", id="settings.edit", tooltip="Give the setting another value"),
        Binding("ctrl+r", "reset", "Reset", id="settings.reset", tooltip="Take it out of the settings file"),
        Binding("ctrl+t", "keys", "Keys", id="settings.keys", tooltip="All keys, and changing them"),
        Binding("escape", "clear", "Clear search", id="settings.clear", show=False),
    ]

    def compose_body(self) -> ComposeResult:
        with Container(id="settings"):
            yield FilterList("Type to find a setting", (18, 24), empty="No setting has these words.")
            with VerticalScroll(id="setting-about", can_focus=False):
                yield Static(id="setting-name", markup=False)
                yield Static(id="setting-help", markup=False)
                yield Static(id="setting-from", classes="-quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one(FilterList).focus_box()
        self._show()

    def on_settings_changed(self, message: SettingsChanged) -> None:
        self._show()

    @on(FilterList.Highlighted)
    def _explain(self, event: FilterList.Highlighted) -> None:
        name = event.row_id
        settings = self.services.settings
        self.query_one("#setting-name", Static).update(name)
        self.query_one("#setting-help", Static).update(Settings.help(name))
        self.query_one("#setting-from", Static).update("\n".join(self._sentences(settings, name)))

    @on(FilterList.Chosen)
    async def action_edit(self) -> None:
        name = self.query_one(FilterList).row_id
        if name == KEYMAP:
            await self.action_keys()
        elif name is not None:
            await self.app.push_screen(EditSetting(name))

    async def action_keys(self) -> None:
        await self.localllm.action_help()

    def action_reset(self) -> None:
        name = self.query_one(FilterList).row_id
        if name is not None:
            self.run_worker(self._reset(name), exclusive=True)

    def action_clear(self) -> None:
        self.query_one(FilterList).clear_words()

    async def _reset(self, name: str) -> None:
        try:
            await asyncio.to_thread(lambda: write_setting(SettingsFile(), name, ""))
            self.localllm.reload_settings(frozenset({name}))
        except LocalLLMError as error:
            self.localllm.show_error(error)

    def _show(self) -> None:
        self.query_one(FilterList).show(self._rows())

    def _rows(self) -> Iterator[Row]:
        settings = self.services.settings
        for group in GROUPS:
            for name in group.names:
                source = where_from(settings, name)
                is_own = source != "default"
                value = settings.text(name) or "–"
                yield Row(
                    name,
                    (name, value, source),
                    group.title,
                    search=f"{Settings.help(name)} {Settings.variable(name)}",
                    styles=("", "bold" if is_own else "", "$primary" if is_own else "$text-muted"),
                )

    def _sentences(self, settings: Settings, name: str) -> Iterator[str]:
        default = Settings().text(name) or "nothing"
        yield f"Default: {default}. Takes effect {group_of(name).takes_effect}."
        yield overrides(settings, name) or f"Kept in {paths.config_file()}; {Settings.variable(name)} goes before it."
