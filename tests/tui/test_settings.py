"""The screen of settings: what it shows, and what becomes of a change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from localllm import paths
from localllm.config import Settings
from tests.tui.driving import screen_text, screen_words, until
from tui.app import LocalLLM
from tui.screens.edit_setting import EditSetting
from tui.settings_edit import GROUPS
from tui.widgets.box import Box
from tui.widgets.filter_list import FilterList

MakeApp = Callable[[], LocalLLM]


def write_config(text: str) -> None:
    paths.ensure(paths.config_dir())
    paths.config_file().write_text(text)


async def type_text(pilot: Pilot[None], text: str) -> None:
    await pilot.press(
        *("_" if letter == "_" else {"-": "minus", ".": "full_stop"}.get(letter, letter) for letter in text)
    )


async def edit(app: LocalLLM, pilot: Pilot[None], name: str) -> None:
    """Open the box of a setting by typing its name."""
    await pilot.press("f7")
    await type_text(pilot, name)
    await until(pilot, lambda: app.screen.query_one(FilterList).row_id == name)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, EditSetting))


def test_every_setting_is_in_one_group() -> None:
    named = [name for group in GROUPS for name in group.names]
    assert sorted(named) == sorted(Settings.names())


async def test_values_are_shown_with_where_they_are_from(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("seed = 7\n")
    monkeypatch.setenv("LOCALLLM_TOP_K", "30")
    app = make_app()
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f7")
        lines = {line.split()[0]: line.split()[1:3] for line in screen_text(app).splitlines() if len(line.split()) > 2}
        assert lines["seed"] == ["7", "file"]
        assert lines["top_k"] == ["30", "LOCALLLM_TOP_K"]
        assert lines["top_p"] == ["0.95", "default"]


async def test_words_find_a_setting_by_name_meaning_and_variable(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7")
        rows = app.screen.query_one(FilterList)
        for words, expected in (("LOCALLLM_N_CTX", "n_ctx"), ("likeliest share", "min_p"), ("draft_m", "draft_model")):
            rows.query_one(Box).value = words
            await until(pilot, lambda expected=expected: rows.row_ids == [expected])
        rows.query_one(Box).value = "no such words"
        await until(pilot, lambda: rows.row_ids == [])
        assert "No setting has these words." in screen_text(app)


async def test_a_change_is_written_and_known_to_the_app_at_once(make_app: MakeApp) -> None:
    write_config("# mine\nn_ctx = 1024  # small\n")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await edit(app, pilot, "n_ctx")
        assert app.screen.query_one(Box).value == "1024"
        await pilot.press("ctrl+u", *"8192", "enter")
        await until(pilot, lambda: not isinstance(app.screen, EditSetting))
        assert app.services.settings.n_ctx == 8192
        assert paths.config_file().read_text() == "# mine\nn_ctx = 8192  # small\n"
        assert "8192" in screen_text(app)


async def test_a_value_that_is_not_allowed_is_refused_in_place(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await edit(app, pilot, "top_p")
        await pilot.press("ctrl+u", "7", "enter")
        await until(pilot, lambda: "it must be a number from 0 to 1" in screen_words(app))
        assert isinstance(app.screen, EditSetting)
        assert not paths.config_file().exists()


async def test_a_setting_with_few_values_is_chosen_from_a_list(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await edit(app, pilot, "context_policy")
        assert app.screen.query_one(FilterList).row_ids == ["error", "shift", "sinks"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: not isinstance(app.screen, EditSetting))
        assert app.services.settings.context_policy == "shift"
        assert paths.config_file().read_text() == 'context_policy = "shift"\n'


async def test_reset_takes_the_line_out(make_app: MakeApp) -> None:
    write_config("seed = 7\ntop_k = 3\n")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7", *"seed")
        await until(pilot, lambda: app.screen.query_one(FilterList).row_id == "seed")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.services.settings.seed is None)
        assert paths.config_file().read_text() == "top_k = 3\n"


async def test_what_a_variable_overrides_is_said(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_SEED", "5")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await edit(app, pilot, "seed")
        assert "The variable LOCALLLM_SEED goes before the file" in screen_words(app)
        await pilot.press("ctrl+u", "9", "enter")
        await until(pilot, lambda: not isinstance(app.screen, EditSetting))
        assert app.services.settings.seed == 5
        assert paths.config_file().read_text() == "seed = 9\n"


async def test_a_value_that_changed_meanwhile_is_not_overwritten_unseen(make_app: MakeApp) -> None:
    write_config("seed = 7\n")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await edit(app, pilot, "seed")
        await app.workers.wait_for_complete()
        write_config("seed = 8\n")
        await pilot.press("ctrl+u", "9", "enter")
        await until(pilot, lambda: "meanwhile" in screen_words(app))
        assert paths.config_file().read_text() == "seed = 8\n"
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, EditSetting))
        assert paths.config_file().read_text() == "seed = 9\n"


async def test_a_broken_file_is_told_of_and_left_alone(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        write_config("seed = ")
        await edit(app, pilot, "top_k")
        await until(pilot, lambda: "is not TOML" in screen_words(app))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, EditSetting))
        assert paths.config_file().read_text() == "seed = "


async def test_a_theme_is_shown_while_one_chooses_and_kept_on_enter(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f12")
        await until(pilot, lambda: isinstance(app.screen, EditSetting))
        await pilot.press(*"nord")
        await until(pilot, lambda: app.theme == "nord")
        await pilot.press("escape")
        await until(pilot, lambda: app.theme == "localllm-dark")
        await pilot.press("f12")
        await until(pilot, lambda: isinstance(app.screen, EditSetting))
        await pilot.press(*"nord", "enter")
        await until(pilot, lambda: app.services.settings.theme == "nord")
        assert app.theme == "nord"
        assert paths.config_file().read_text() == 'theme = "nord"\n'


async def test_an_unknown_theme_is_told_of(make_app: MakeApp) -> None:
    write_config('theme = "pink[/]"\n')
    app = make_app()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: "There is no theme pink[/]." in screen_words(app))
        assert app.theme == "localllm-dark"
