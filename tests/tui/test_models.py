"""The screen of models: what is listed, what is said of it, and what the keys do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from localllm.store.demo import DEMO_NAME
from tests.hub.conftest import noise
from tests.hub.local_hub import Fault
from tests.store.layouts import HubCache, Ollama, tiny_gguf, write_file
from tests.tiny_adapter import write_tiny_adapter
from tests.tiny_model import write_tiny_model
from tests.tui.driving import screen_text, until
from tests.tui.model_places import OPTIONS, REPO, HubPlace, cell, hub_place, listed, models_screen
from tui import messages
from tui.app import LocalLLM
from tui.screens.choice import ChoiceScreen
from tui.screens.import_dialog import ImportDialog
from tui.screens.model_details import ModelDetailsScreen
from tui.screens.pull_dialog import PullDialog
from tui.widgets.download_list import DownloadList
from tui.widgets.model_details import ModelDetails
from tui.widgets.model_table import ModelTable

__all__ = ["hub_place"]
NARROW, WIDE = (80, 24), (160, 50)
SLOW = Fault(bytes_s=400_000)


@pytest.fixture
def own(own: Path) -> Path:
    """Our own folder of models, made."""
    own.mkdir(parents=True)
    return own


@pytest.fixture
def app(make_app: Callable[[], LocalLLM]) -> LocalLLM:
    app = make_app()
    app.services.downloads.options = OPTIONS
    return app


async def open_models(app: LocalLLM, pilot: Pilot[None]) -> None:
    await pilot.press("f3")
    await until(pilot, lambda: listed(app))


async def choose(app: LocalLLM, pilot: Pilot[None], name: str) -> None:
    """Put the cursor on a model."""
    await until(pilot, lambda: name in listed(app))
    table = models_screen(app).query_one(ModelTable)
    table.focus()
    table.move_cursor(row=listed(app).index(name))
    await pilot.pause()


def notices(app: LocalLLM) -> str:
    """Return what the app has told in notices."""
    return " ".join(notice.message for notice in app._notifications)


def heard(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what the app is told, as it comes."""
    told: list[object] = []
    post = app.post_message
    monkeypatch.setattr(app, "post_message", lambda message: (told.append(message), post(message))[1])
    return told


async def test_what_is_here_comes_first_then_the_catalog(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        assert listed(app)[:2] == [DEMO_NAME, "mine"]
        assert "qwen3-0.6b" in listed(app)
        await until(pilot, lambda: cell(app, "mine", "verdict") == "fits")
        assert cell(app, "mine", "place") == "localllm"
        assert cell(app, "qwen3-0.6b", "place") == "not here"
        assert "2 here" in screen_text(app)


async def test_without_models_the_screen_says_what_to_do(app: LocalLLM, no_demo: None) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        assert "No model is here yet. p fetches one" in screen_text(app)


async def test_what_is_too_large_comes_last_and_says_what_it_needs(
    app: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.runtime.catalog_plan.available_ram_bytes", lambda: 8 << 30)
    async with app.run_test(size=WIDE) as pilot:
        await open_models(app, pilot)
        await until(pilot, lambda: listed(app)[-1] == "qwen2.5-coder-32b" or "qwq" in listed(app)[-1])
        assert cell(app, "qwen3-32b", "verdict").startswith("too large: needs ")
        large = [cell(app, name, "verdict").startswith("too large") for name in listed(app)]
        assert large == sorted(large)
        await pilot.press("f")
        await until(pilot, lambda: "qwen3-32b" not in listed(app))
        assert "qwen3-0.6b" in listed(app)


async def test_words_and_filters_narrow_the_list(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await pilot.press("slash", *"coder")
        await until(pilot, lambda: all("coder" in name for name in listed(app)))
        await pilot.press("enter")
        assert models_screen(app).query_one(ModelTable).has_focus
        await pilot.press("escape")
        await until(pilot, lambda: "mine" in listed(app))
        await pilot.press("o")
        await until(pilot, lambda: listed(app) == [DEMO_NAME, "mine"])
        await pilot.press("o")
        await until(pilot, lambda: "mine" not in listed(app))
        assert cell(app, DEMO_NAME, "place") == "demo"
        await pilot.press("k", "k")
        await until(pilot, lambda: "qwen2.5-coder-7b" in listed(app))
        assert "qwen3-8b" not in listed(app)
        await pilot.press("k", "k", "k")
        await until(pilot, lambda: "qwen3-0.6b" in listed(app))
        assert "qwen3-8b" not in listed(app)


async def test_letters_in_the_search_box_are_no_commands(app: LocalLLM) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await pilot.press("slash", *"dpq")
        assert models_screen(app).query_one(Input).value == "dpq"
        assert app.screen is models_screen(app)
        await until(pilot, lambda: not listed(app))
        assert "No model fits this search" in screen_text(app)


async def test_two_hundred_models_are_listed(app: LocalLLM, own: Path) -> None:
    for index in range(200):
        write_file(own / f"model-{index:03d}.gguf", tiny_gguf(index))
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        assert len([name for name in listed(app) if name.startswith("model-")]) == 200
        await pilot.press("G")
        await pilot.press("g", "down", "down")
        table = models_screen(app).query_one(ModelTable)
        assert table.chosen is not None and table.chosen.ref == "model-001"


async def test_details_are_a_screen_where_it_is_narrow(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "mine")
        await pilot.press("enter")
        assert isinstance(app.screen, ModelDetailsScreen)
        await until(pilot, lambda: "On this machine" in screen_text(app))
        assert str(own) in screen_text(app).replace("\n", "").replace(" ", "") or "Folder" in screen_text(app)
        await pilot.press("end")
        await until(pilot, lambda: "Chat template" in screen_text(app))
        await pilot.press("escape")
        assert app.screen is models_screen(app)


async def test_details_are_beside_the_list_where_it_is_wide(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=WIDE) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "mine")
        await until(pilot, lambda: "Tensors by type" in screen_text(app))
        await pilot.press("enter")
        assert models_screen(app).query_one(ModelDetails).has_focus
        await pilot.press("escape")
        await choose(app, pilot, "qwen3-8b")
        await until(pilot, lambda: "Files: p fetches one" in screen_text(app))
        assert "Apache-2.0" in screen_text(app)


async def test_a_template_is_folded_and_harmless(app: LocalLLM, own: Path) -> None:
    template = "{{ messages }}\x1b[31m[bold]red[/bold]\x07"
    write_tiny_model(own / "mine.gguf", chat_template=template)
    async with app.run_test(size=WIDE) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "mine")
        await until(pilot, lambda: "Chat template" in screen_text(app))
        assert "{{ messages }}" not in screen_text(app)
        await pilot.press("enter", "tab", "enter")
        await until(pilot, lambda: "{{ messages }}[31m[bold]red[/bold]" in screen_text(app))


async def test_the_speed_is_foretold_after_asking(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "mine")
        await until(pilot, lambda: cell(app, "mine", "verdict") == "fits")
        assert cell(app, "mine", "speed") == "–"
        await pilot.press("m")
        await until(pilot, lambda: cell(app, "mine", "speed") != "–", limit_s=60)
        assert float(cell(app, "mine", "speed")) > 0


async def test_a_damaged_file_and_an_adapter_say_what_they_are(
    app: LocalLLM, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(own / "broken.gguf", noise(5000))
    write_tiny_adapter(own / "lora.gguf")
    async with app.run_test(size=NARROW) as pilot:
        told = heard(app, monkeypatch)
        await open_models(app, pilot)
        await until(pilot, lambda: cell(app, "broken", "verdict") == "damaged")
        await until(pilot, lambda: cell(app, "lora", "verdict") == "adapter")
        await choose(app, pilot, "lora")
        await pilot.press("c")
        await until(pilot, lambda: "It is an adapter" in notices(app))
        assert not any(isinstance(message, messages.ChatWith) for message in told)


async def test_keys_take_a_model_elsewhere(app: LocalLLM, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=NARROW) as pilot:
        told = heard(app, monkeypatch)
        await open_models(app, pilot)
        for key, kind in (
            ("c", messages.ChatWith),
            ("s", messages.ServeModel),
            ("Q", messages.QuantizeModel),
        ):
            await pilot.press("f3")
            await choose(app, pilot, "mine")
            await pilot.press(key)
            await until(pilot, lambda kind=kind: [one for one in told if isinstance(one, kind)])
            assert [one.ref for one in told if isinstance(one, kind)] == ["mine"]
        await pilot.press("f3")
        await choose(app, pilot, "mine")
        await pilot.press("y")
        assert app.clipboard == "mine"


async def test_what_is_not_here_is_to_be_fetched_first(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app.run_test(size=NARROW) as pilot:
        told = heard(app, monkeypatch)
        await open_models(app, pilot)
        await choose(app, pilot, "qwen3-8b")
        await pilot.press("c")
        await until(pilot, lambda: "qwen3-8b is not on this disk: p fetches it." in notices(app))
        assert not any(isinstance(message, messages.ChatWith) for message in told)


async def test_deleting_says_what_it_frees_and_asks(app: LocalLLM, hub: HubCache) -> None:
    data = tiny_gguf(1)
    link = hub.add("org/name", "name-Q4_K_M.gguf", data)
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "org/name")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "Delete org/name:Q4_K_M?" in screen_text(app) and "This frees" in screen_text(app)
        await pilot.press("escape")
        assert link.exists()
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("y")
        await until(pilot, lambda: not link.exists() and "org/name" not in listed(app))


async def test_bytes_that_another_model_shares_are_not_counted_as_freed(app: LocalLLM, ollama: Ollama) -> None:
    for name in ("one", "two"):
        ollama.add(name, "latest", tiny_gguf(1))
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "one:latest")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "It belongs to Ollama." in screen_text(app)
        frees = next(line for line in screen_text(app).splitlines() if "This frees" in line)
        assert "This frees" in frees and " B." in frees


async def test_the_demo_model_is_not_deleted(app: LocalLLM) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, DEMO_NAME)
        await pilot.press("d")
        await until(pilot, lambda: "pip uninstall" in notices(app))


async def test_a_file_is_imported_by_its_path(app: LocalLLM, own: Path, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path / "found.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await pilot.press("i")
        assert isinstance(app.screen, ImportDialog)
        app.screen.query_one("#import-path", Input).value = str(tmp_path / "nothing.gguf")
        await pilot.press("enter")
        await until(pilot, lambda: "nothing.gguf" in str(app.screen.query_one("#import-note", Static).render()))
        app.screen.query_one("#import-path", Input).value = str(file)
        app.screen.query_one("#import-name", Input).value = "coder"
        await pilot.press("enter")
        await until(pilot, lambda: "coder" in listed(app))
        assert (own / "coder.gguf").is_symlink()


async def test_a_model_is_verified(app: LocalLLM, hub: HubCache) -> None:
    link = hub.add("org/name", "name-Q4_K_M.gguf", tiny_gguf(1))
    async with app.run_test(size=WIDE) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "org/name")
        await pilot.press("v")
        await until(pilot, lambda: "its SHA-256 is right" in notices(app))
        link.resolve().write_bytes(tiny_gguf(2))
        await pilot.press("v")
        await until(pilot, lambda: "org/name:Q4_K_M is damaged" in notices(app))


async def test_what_other_programs_add_is_seen_after_a_refresh(app: LocalLLM, own: Path) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        write_tiny_model(own / "late.gguf")
        assert "late" not in listed(app)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: "late" in listed(app))
        (own / "late.gguf").unlink()
        app.broadcast(messages.ModelsChanged())
        await until(pilot, lambda: "late" not in listed(app))


async def test_the_hub_is_searched_for_the_words(app: LocalLLM, hub_place: HubPlace) -> None:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": noise(5000)}, n_params=2_000_000_000, n_downloads=1234)
    hub_place.hub.add("org/gated-tiny", {"gated-Q8_0.gguf": noise(5000)}, is_gated=True)
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        await pilot.press("h", *"tiny", "enter")
        await until(pilot, lambda: REPO in listed(app))
        assert cell(app, REPO, "size") == "~1.1 GiB"
        assert cell(app, "org/gated-tiny", "place") == "gated"
        await until(pilot, lambda: cell(app, REPO, "verdict"))
        hub_place.hub.fail("/api/models", Fault(status=503), times=None)
        await pilot.press("h")
        await until(pilot, lambda: "the server failed (503)" in screen_text(app))


async def pull(app: LocalLLM, pilot: Pilot[None], hub_place: HubPlace) -> None:
    """Search for the model of the hub, and choose its recommended file."""
    await open_models(app, pilot)
    await pilot.press("h", *"tiny", "enter")
    await choose(app, pilot, REPO)
    await pilot.press("p")
    await until(pilot, lambda: isinstance(app.screen, PullDialog) and app.screen.query_one(OptionList).option_count)
    assert "Q4_K_M" in screen_text(app) and "(recommended)" in screen_text(app)
    await pilot.press("enter")
    await until(pilot, lambda: app.services.downloads.all)


async def test_a_model_is_pulled_paused_resumed_and_listed(app: LocalLLM, hub_place: HubPlace, tmp_path: Path) -> None:
    data = write_tiny_model(tmp_path / "tiny.gguf").read_bytes()
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": data, "tiny-Q8_0.gguf": noise(2_000_000)})
    hub_place.hub.fail("/cdn/*", Fault(bytes_s=len(data) / 3))
    async with app.run_test(size=NARROW) as pilot:
        await pull(app, pilot, hub_place)
        downloads = app.services.downloads
        await until(pilot, lambda: downloads.all[0].n_done_bytes > 10_000)
        assert "Downloads: Space pauses" in screen_text(app)
        await pilot.press("f2")
        await until(pilot, lambda: "↓ " in screen_text(app).splitlines()[0])
        await pilot.press("f3", "space")
        await until(pilot, lambda: downloads.all[0].phase == "paused")
        await until(pilot, lambda: "· paused" in screen_text(app))
        assert cell(app, REPO, "place").startswith("paused ")
        await pilot.press("space")
        await until(pilot, lambda: downloads.all[0].phase == "done")
        await pilot.press("o")
        await until(pilot, lambda: "tiny-GGUF:Q4_K_M" in " ".join(listed(app)))
        await pilot.press("x")
        await until(pilot, lambda: not downloads.all)
        assert not models_screen(app).query_one(DownloadList).display


async def test_cancelling_asks_what_becomes_of_what_came(app: LocalLLM, hub_place: HubPlace) -> None:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": noise(2_000_000)})
    hub_place.hub.fail("/cdn/*", SLOW, times=None)
    async with app.run_test(size=NARROW) as pilot:
        await pull(app, pilot, hub_place)
        await until(pilot, lambda: app.services.downloads.all[0].n_done_bytes > 50_000)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("n")
        assert app.services.downloads.all[0].phase == "fetching"
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("d")
        await until(pilot, lambda: not app.services.downloads.all)
        assert hub_place.incomplete == []


async def test_a_gated_model_says_what_to_do_where_it_is(app: LocalLLM, hub_place: HubPlace) -> None:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": noise(50_000)}, is_gated=True)
    async with app.run_test(size=WIDE) as pilot:
        await pull(app, pilot, hub_place)
        await until(pilot, lambda: app.services.downloads.all[0].phase == "failed")
        await until(pilot, lambda: "hf auth login" in screen_text(app))
        assert cell(app, REPO, "place") == "failed"
        assert "↓ failed" in screen_text(app).splitlines()[0]


async def test_the_list_of_downloads_has_a_cursor_of_its_own(app: LocalLLM, hub_place: HubPlace, home: Path) -> None:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": noise(50_000)})
    file = home / "data" / "downloads.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    refs = (f"{REPO}:Q4_K_M", "org/other:Q8_0")
    file.write_text(
        json.dumps([{"ref": ref, "n_done_bytes": 10, "n_total_bytes": 50_000, "partials": []} for ref in refs])
    )
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        shown = models_screen(app).query_one(DownloadList)
        while not shown.has_focus:
            await pilot.press("tab")
        await pilot.press("down", "x")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert "org/other:Q8_0" in screen_text(app)
        await pilot.press("k")
        await until(pilot, lambda: [one.ref for one in app.services.downloads.all] == [refs[0]])
        await pilot.press("space")
        await until(pilot, lambda: app.services.downloads.all[0].phase == "done")
        assert hub_place.snapshots


async def test_where_it_is_wide_a_measured_plan_is_shown_beside_the_list(app: LocalLLM, own: Path) -> None:
    write_tiny_model(own / "mine.gguf")
    async with app.run_test(size=WIDE) as pilot:
        await open_models(app, pilot)
        await choose(app, pilot, "mine")
        await until(pilot, lambda: "not measured: m does" in screen_text(app))
        await pilot.press("m")
        await until(pilot, lambda: "Prompts" in screen_text(app), limit_s=60)
        assert cell(app, "mine", "speed") != "–"


async def test_a_model_is_shown_to_those_who_come_from_elsewhere(app: LocalLLM, own: Path) -> None:
    for name in ("first", "second"):
        write_tiny_model(own / f"{name}.gguf")
    async with app.run_test(size=NARROW) as pilot:
        await open_models(app, pilot)
        for ref in (str(own / "second.gguf"), "first"):
            await models_screen(app).choose(ref)
            await until(pilot, lambda ref=ref: (chosen := models_screen(app).chosen) and ref.count(chosen.ref))
