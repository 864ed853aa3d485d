"""What can be done, and with which keys: on the present screen first, then everywhere. Keys are changed here, too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from localllm.errors import LocalLLMError
from localllm.settings_file import SettingsFile
from tui.keys import BoundKey, all_bindings, bindings_here, place
from tui.modes import ALL_MODES
from tui.screens.mode import the_app
from tui.screens.press_key import PressKey
from tui.settings_edit import KEYMAP, write_keys
from tui.widgets.filter_list import FilterList, Row

HERE = "On this screen"
MOVING = "Tab goes from part to part, the arrows move, Enter chooses, Esc goes back."


class HelpScreen(ModalScreen[None]):
    """All bindings, with a search.

    Args:
        about: the screen that help is wanted for.
    """

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > Vertical {
            width: 100;
            max-width: 100%;
            height: 100%;
            max-height: 46;
            padding: 0 1;
            border: round $primary;
            border-title-color: $primary;
            border-title-style: bold;
            background: $surface;
        }
        #help-about { color: $text-muted; margin-bottom: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "change", "Change the key", id="help.change", tooltip="Press the key that it shall have"),
        Binding("ctrl+r", "reset", "Reset", id="help.reset", tooltip="The key that it had at first"),
        Binding("ctrl+l", "reset_all", "Reset all", id="help.reset_all", tooltip="The keys that all had at first"),
        Binding("escape,f1", "leave", "Back", id="help.leave"),
    ]

    def __init__(self, about: Screen[object]) -> None:
        super().__init__()
        self._about = about
        self._known: list[BoundKey] = []

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = "Help and keys"
            yield Static(self._introduction(), id="help-about", markup=False)
            yield FilterList("Type to find a key, or what it does", (26, 16), empty="No key does that.")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one(FilterList).focus_box()
        self._show()
        self.run_worker(self._load(), exclusive=True)

    @on(FilterList.Chosen)
    def action_change(self) -> None:
        bound = self._at_cursor()
        if bound is not None:
            self.app.push_screen(PressKey(bound, self._known), lambda key: self._changed(bound, key))

    def action_reset(self) -> None:
        bound = self._at_cursor()
        if bound is not None and bound.id in self._keymap:
            self.run_worker(self._write({bound.id: None}))

    def action_reset_all(self) -> None:
        self.run_worker(self._write(dict.fromkeys(self._keymap)))

    def action_leave(self) -> None:
        if not self.query_one(FilterList).clear_words():
            self.dismiss()

    @property
    def _keymap(self) -> dict[str, str]:
        return dict(the_app(self).services.settings.keymap)

    def _introduction(self) -> str:
        mode = next((mode for mode in ALL_MODES if mode.name == self.app.current_mode), None)
        return f"{mode.title}: {mode.help}.\n{MOVING}" if mode else MOVING

    async def _load(self) -> None:
        self._known = await asyncio.to_thread(all_bindings, self._keymap)
        self._show()

    def _show(self) -> None:
        self.query_one(FilterList).show(self._rows())

    def _rows(self) -> Iterator[Row]:
        # The first heading has the present screen's, whichever widget they belong to.
        here = [bound for _, _, bound in bindings_here(self._about, self._keymap) if not _is_everywhere(bound)]
        everywhere = [bound for _, _, bound in bindings_here(self._about, self._keymap) if _is_everywhere(bound)]
        yield from (_row(bound, HERE) for bound in here)
        yield from (_row(bound, bound.where) for bound in everywhere)
        shown = {bound.id for bound in (*here, *everywhere)}
        yield from (_row(bound, bound.where) for bound in self._known if bound.id not in shown)

    def _at_cursor(self) -> BoundKey | None:
        row_id = self.query_one(FilterList).row_id
        known = {bound.id: bound for bound in self._known}
        return known.get(row_id) if row_id is not None else None

    def _changed(self, bound: BoundKey, key: str | None) -> None:
        if key is not None:
            self.run_worker(self._write({bound.id: key if key != bound.default_keys else None}))

    async def _write(self, changes: dict[str, str | None]) -> None:
        try:
            await asyncio.to_thread(_write_all, changes)
            the_app(self).reload_settings(frozenset({KEYMAP}))
        except LocalLLMError as error:
            the_app(self).show_error(error)
        await self._load()


def _write_all(changes: dict[str, str | None]) -> None:
    file = SettingsFile()
    for binding_id, keys in changes.items():
        write_keys(file, binding_id, keys)


def _is_everywhere(bound: BoundKey) -> bool:
    return bound.where == place("app")


def _row(bound: BoundKey, heading: str) -> Row:
    keys = bound.label + (" *" if bound.is_changed else "")
    return Row(
        bound.id,
        (bound.description, keys, bound.help),
        heading,
        search=f"{bound.id} {bound.where}",
        styles=("", "bold $primary", "$text-muted"),
    )
