"""Changes one setting: a box to type in, or a list to choose from."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from localllm.config import Settings
from localllm.errors import LocalLLMError, RequestError
from localllm.settings_file import SettingsFile
from tui.screens.mode import the_app
from tui.settings_edit import group_of, overrides, where_from, write_setting
from tui.themes import OWN_THEMES
from tui.widgets.box import Box
from tui.widgets.filter_list import FilterList, Row

THEME = "theme"


class EditSetting(ModalScreen[bool]):
    """True: it was changed. Colours are shown while one chooses them.

    Args:
        name: the setting.
    """

    DEFAULT_CSS = """
    EditSetting {
        align: center middle;
        & > Vertical {
            width: 72;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 0 1;
            border: round $primary;
            border-title-color: $primary;
            border-title-style: bold;
            background: $surface;
        }
        &.-theme { align: right middle; background: transparent; & > Vertical { width: 36; } }
        FilterList { height: 16; max-height: 100%; margin-top: 1; }
        Box.-value { margin-top: 1; }
        .-quiet { color: $text-muted; }
        #setting-wrong { color: $error; display: none; }
        #setting-wrong.-shown { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "save", "Save", id="setting.save", tooltip="Written into the settings file"),
        Binding("escape", "leave", "Leave it", id="setting.leave"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__(classes="-theme" if name == THEME else "")
        self._setting = name
        self._file: SettingsFile | None = None

    def compose(self) -> ComposeResult:
        settings = the_app(self).services.settings
        with Vertical() as frame:
            frame.border_title = self._setting
            if self._setting != THEME:
                yield Static(Settings.help(self._setting), markup=False)
                yield Static(self._about(settings), classes="-quiet", markup=False)
            if overridden := overrides(settings, self._setting):
                yield Static(overridden, classes="-quiet", markup=False)
            if self._choices():
                yield FilterList("Type to find one")
            else:
                yield Box(settings.text(self._setting), classes="-value", placeholder="nothing: as it is by itself")
            yield Static(id="setting-wrong", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._looking = self.run_worker(self._look())
        if not self._choices():
            self.query_one(Box).focus()
            return
        choices = self.query_one(FilterList)
        choices.show((Row(name, (name,)) for name in self._choices()), at=self._now())
        choices.focus_box()

    def action_save(self) -> None:
        if self._choices():
            value = self.query_one(FilterList).row_id
        else:
            value = self.query_one("Box.-value", Box).value.strip()
        if value == self._now():
            self.action_leave()
        elif value is not None:
            self.run_worker(self._save(value), exclusive=True)

    @on(FilterList.Chosen)
    def _chosen(self) -> None:
        self.action_save()

    @on(FilterList.Highlighted)
    def _highlighted(self, event: FilterList.Highlighted) -> None:
        if self._setting == THEME:
            app = the_app(self)
            app.theme = app.default_theme if event.row_id == "auto" else event.row_id

    def action_leave(self) -> None:
        if self._setting == THEME:
            the_app(self).apply_settings(frozenset({THEME}))
        self.dismiss(False)

    def _now(self) -> str:
        return the_app(self).services.settings.text(self._setting)

    def _choices(self) -> tuple[str, ...]:
        if self._setting != THEME:
            return Settings.choices(self._setting)
        own = [theme.name for theme in OWN_THEMES]
        return ("auto", *own, *sorted(set(self.app.available_themes) - set(own)))

    def _about(self, settings: Settings) -> str:
        source = where_from(settings, self._setting)
        default = Settings().text(self._setting) or "nothing"
        return f"From: {source}. Default: {default}. Takes effect {group_of(self._setting).takes_effect}."

    async def _look(self) -> None:
        """Remember the file as it is, so that a change by another program meanwhile is seen."""
        try:
            self._file = await asyncio.to_thread(SettingsFile)
        except RequestError as error:
            self._show_wrong(error)

    async def _save(self, value: str) -> None:
        try:
            await self._looking.wait()
            if self._file is None:
                raise RequestError("The settings file could not be read.", hint="Mend it, and come here again.")
            await asyncio.to_thread(write_setting, self._file, self._setting, value)
            the_app(self).reload_settings(frozenset({self._setting}))
        except RequestError as error:
            self._show_wrong(error)
            return
        self.dismiss(True)

    def _show_wrong(self, error: LocalLLMError) -> None:
        wrong = self.query_one("#setting-wrong", Static)
        # Of a value that is not allowed, the hint is the setting's own help, which stands above.
        hint = error.hint if error.hint != Settings.help(self._setting) else None
        wrong.update(f"✗ {error.message} {hint or ''}".rstrip())
        wrong.add_class("-shown")
