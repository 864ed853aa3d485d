"""The frame: modes, and the keys that lead to them."""

from __future__ import annotations

import pytest

from tests.tui.driving import screen_text
from tui.app import LocalLLM
from tui.modes import ALL_MODES, Mode


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: mode.name)
async def test_a_key_leads_to_each_mode(app: LocalLLM, mode: Mode) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(mode.key)
        assert app.current_mode == mode.name
        assert f"{mode.key.upper()} {mode.title}" in screen_text(app).splitlines()[0]
