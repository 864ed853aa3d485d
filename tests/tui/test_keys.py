"""Keys: all are named and listed, and any can be another one."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module

import pytest
from textual.binding import Binding
from textual.dom import DOMNode

import tui
from localllm import paths
from tests.tui.driving import screen_text, until
from tui.app import LocalLLM
from tui.keys import BoundKey, all_bindings, clashes, label, refusal
from tui.modes import ALL_MODES
from tui.reference import PATH, page
from tui.screens.help import HelpScreen
from tui.screens.press_key import PressKey
from tui.widgets.box import Box
from tui.widgets.filter_list import FilterList

MakeApp = Callable[[], LocalLLM]
HELD_BACK = {"ctrl+i", "ctrl+m", "ctrl+h"}
"""Keys that are others in many terminals."""


def own_bindings() -> list[tuple[type, Binding]]:
    """Return every binding that our classes bind."""
    found = []
    for module_info in pkgutil.walk_packages(tui.__path__, "tui."):
        module = import_module(module_info.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, DOMNode) and cls.__module__ == module.__name__ and cls is not Box:
                found += [(cls, binding) for binding in Binding.make_bindings(cls.__dict__.get("BINDINGS", ()))]
    return found


def test_every_binding_has_an_id_a_description_and_a_key_that_terminals_can_tell() -> None:
    bindings = own_bindings()
    assert len(bindings) > 20
    assert [(cls.__name__, one.key) for cls, one in bindings if not one.id or not one.description] == []
    assert [(cls.__name__, one.key) for cls, one in bindings if one.key in HELD_BACK] == []
    assert [one.id for _, one in bindings if one.key == "ctrl+j" and "line" not in one.description.lower()] == []


def test_an_id_means_one_thing() -> None:
    actions: dict[str, set[str]] = {}
    for _, binding in own_bindings():
        actions.setdefault(binding.id or "", set()).add(binding.description)
    assert {name: found for name, found in actions.items() if len(found) > 1} == {}


def test_every_screen_has_its_key() -> None:
    keys = {bound.id: bound.keys for bound in all_bindings({})}
    assert [keys[mode.binding_id] for mode in ALL_MODES] == [mode.key for mode in ALL_MODES]


def test_the_page_of_keys_is_up_to_date() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert text == page(text), "Run: python -m tui.reference"


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ("ctrl+n", "Ctrl+N"),
        ("f1,question_mark", "F1 or ?"),
        ("shift+f12", "Shift+F12"),
        ("escape", "Esc"),
        ("ctrl+pageup", "Ctrl+PageUp"),
        ("d", "d"),
        ("D", "D"),
        ("alt+1", "Alt+1"),
        ("home", "Home"),
    ],
)
def test_keys_are_written_as_people_write_them(keys: str, written: str) -> None:
    assert label(keys) == written


def bound(name: str, keys: str) -> BoundKey:
    return BoundKey(name, name, keys, keys)


def test_a_key_clashes_with_those_of_the_same_screen_and_of_all() -> None:
    known = [bound("chat.new", "ctrl+n"), bound("models.new", "ctrl+n"), bound("app.quit", "ctrl+q,f12")]
    assert [one.id for one in clashes("ctrl+n", bound("chat.stop", "escape"), known)] == ["chat.new"]
    assert [one.id for one in clashes("f12", bound("chat.stop", "escape"), known)] == ["app.quit"]
    assert [one.id for one in clashes("ctrl+n", bound("app.help", "f1"), known)] == ["chat.new", "models.new"]
    assert clashes("ctrl+n", known[0], known) == []


def test_keys_that_would_lock_somebody_out_are_refused() -> None:
    new = bound("chat.new", "ctrl+n")
    assert "cannot tell" in (refusal("ctrl+m", new) or "")
    assert "moving about" in (refusal("tab", new) or "")
    assert "typed as text" in (refusal("n", new) or "")
    assert refusal("f9", new) is None and refusal("alt+n", new) is None
    assert refusal("x", bound("models.delete", "d")) is None


async def find(app: LocalLLM, pilot: object, words: str, binding_id: str) -> FilterList:
    rows = app.screen.query_one(FilterList)
    rows.query_one(Box).value = words
    await until(pilot, lambda: rows.row_id == binding_id)  # type: ignore[arg-type]
    return rows


async def test_a_key_is_changed_kept_and_reset(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7", "f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await find(app, pilot, "app.models", "app.models")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PressKey))
        await pilot.press("f11")
        await until(pilot, lambda: dict(app.services.settings.keymap) == {"app.models": "f11"})
        assert paths.config_file().read_text() == '[keymap]\n"app.models" = "f11"\n'
        await until(pilot, lambda: "F11 *" in screen_text(app))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        await pilot.press("f3")
        assert app.current_mode == "settings"
        await pilot.press("f11")
        assert app.current_mode == "models"
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await find(app, pilot, "app.models", "app.models")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.services.settings.keymap == ())
        await pilot.press("escape", "escape", "f7", "f3")
        assert app.current_mode == "models"


async def test_all_keys_are_reset_at_once(make_app: MakeApp) -> None:
    paths.ensure(paths.config_dir())
    paths.config_file().write_text('seed = 1\n[keymap]\n"app.models" = "f9"\n"app.serve" = "f10"\n')
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f10", "f1")
        assert app.current_mode == "serve"
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.services.settings.keymap == ())
        assert paths.config_file().read_text() == "seed = 1\n[keymap]\n"


async def test_a_key_that_means_something_already_is_taken_only_on_the_second_press(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7", "f1")
        await find(app, pilot, "app.theme", "app.theme")
        await until(pilot, lambda: app.screen._known)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PressKey))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: "Ctrl+Q is already: Quit" in screen_text(app))
        await pilot.press("ctrl+i")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: dict(app.services.settings.keymap) == {"app.theme": "ctrl+q"})


async def test_escape_leaves_the_key_as_it_is(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7", "f1")
        await until(pilot, lambda: app.screen._known)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PressKey))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        assert app.services.settings.keymap == () and not paths.config_file().exists()
