"""How the screen of models looks, in its main states."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from tests.hub.conftest import noise
from tests.tiny_adapter import write_tiny_adapter
from tests.tiny_model import write_tiny_model
from tests.tui.driving import screen_text, until
from tests.tui.model_places import OPTIONS, REPO, HubPlace, hub_place, listed, models_screen
from tui.app import LocalLLM
from tui.model_plans import Plans, Verdict
from tui.model_rows import ModelRow
from tui.screens.model_details import ModelDetailsScreen
from tui.screens.pull_dialog import PullDialog
from tui.widgets.model_table import ModelTable

__all__ = ["hub_place"]
NARROW, WIDE = (80, 24), (160, 50)
_FREE_BYTES = 8 << 30


def _verdict(plans: Plans, row: ModelRow, n_bytes: int | None = None) -> Verdict:
    """Judge as a machine with 8 GiB would, whatever this one has."""
    if row.is_adapter:
        return Verdict(None, "an adapter, for a model", "adapter")
    if (n_bytes or row.n_bytes or 0) < _FREE_BYTES:
        return Verdict(True, "fits", "fits", 8192, 12.3 if row.is_here else None)
    return Verdict(False, "too large: needs 21.4 GiB", "too large")


@pytest.fixture
def make(make_app: Callable[[], LocalLLM], monkeypatch: pytest.MonkeyPatch, no_demo: None) -> Callable[[], LocalLLM]:
    monkeypatch.setattr(Plans, "_judge", _verdict)
    monkeypatch.setattr(Plans, "judge_size", _verdict)

    def make() -> LocalLLM:
        app = make_app()
        app.services.downloads.options = OPTIONS
        return app

    return make


async def _open(pilot: Pilot[Any], name: str | None = None) -> LocalLLM:
    app = pilot.app
    assert isinstance(app, LocalLLM)
    await pilot.press("f3")
    await until(pilot, lambda: listed(app))
    plans = models_screen(app).plans
    await until(pilot, lambda: len(plans._fresh) >= 46 and not models_screen(app)._judging)
    if name is not None:
        models_screen(app).query_one(ModelTable).move_cursor(row=listed(app).index(name))
    await pilot.pause()
    return app


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80", "160"])
def test_models_of_the_disk_and_the_catalog(
    snap_compare: Any, make: Callable[[], LocalLLM], own: Path, size: tuple[int, int]
) -> None:
    own.mkdir(parents=True)
    write_tiny_model(own / "mine.gguf")
    write_tiny_adapter(own / "style.gguf")
    (own / "broken.gguf").write_bytes(noise(5000))

    async def before(pilot: Pilot[Any]) -> None:
        app = await _open(pilot, "qwen3-8b")
        if size == WIDE:
            await until(pilot, lambda: "Files: p fetches one" in screen_text(app))

    assert snap_compare(make(), terminal_size=size, run_before=before)


def test_no_model_is_here(snap_compare: Any, make: Callable[[], LocalLLM]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _open(pilot)

    assert snap_compare(make(), terminal_size=NARROW, run_before=before)


def test_details_of_a_model_that_is_not_here(snap_compare: Any, make: Callable[[], LocalLLM]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        app = await _open(pilot, "gpt-oss-20b")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ModelDetailsScreen))
        await until(pilot, lambda: "Architecture" in screen_text(app))

    assert snap_compare(make(), terminal_size=NARROW, run_before=before)


def test_choosing_what_to_pull(snap_compare: Any, make: Callable[[], LocalLLM]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        app = await _open(pilot, "llama-3.1-8b")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, PullDialog) and app.screen.query_one(OptionList).option_count)

    assert snap_compare(make(), terminal_size=NARROW, run_before=before)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80", "160"])
def test_downloads_that_rest_and_that_failed(
    snap_compare: Any, make: Callable[[], LocalLLM], hub_place: HubPlace, home: Path, size: tuple[int, int]
) -> None:
    hub_place.hub.add(REPO, {"tiny-Q4_K_M.gguf": noise(50_000)}, is_gated=True)
    file = home / "data" / "downloads.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    half = {"ref": "qwen3-8b:Q4_K_M", "n_done_bytes": 2 << 30, "n_total_bytes": 5 << 30, "partials": []}
    file.write_text(json.dumps([half]))

    async def before(pilot: Pilot[Any]) -> None:
        app = await _open(pilot, "qwen3-8b")
        app.services.downloads.start(REPO)
        await until(pilot, lambda: app.services.downloads.all[-1].phase == "failed")
        await until(pilot, lambda: "gated" in screen_text(app))

    assert snap_compare(make(), terminal_size=size, run_before=before)


def test_importing(snap_compare: Any, make: Callable[[], LocalLLM]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _open(pilot)
        await pilot.press("i")

    assert snap_compare(make(), terminal_size=NARROW, run_before=before)
