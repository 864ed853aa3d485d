"""Our themes: text is legible on every ground that it may stand on, and terminals get the one that fits."""

from __future__ import annotations

from itertools import product

import pytest
from textual.color import Color
from textual.theme import Theme
from textual.widgets import OptionList

from tests.tui.driving import screen_text
from tui.app import LocalLLM
from tui.themes import OWN_THEMES, chosen_theme

LEGIBLE = 4.5
"""WCAG 2.2, 1.4.3 (AA): the contrast of text and its ground."""
GROUNDS = ("background", "surface", "panel", "block-cursor-background")
INKS = (
    "foreground", "text-muted", "primary", "secondary", "accent", "success", "warning", "error", "text-primary",
    "text-success", "text-warning", "text-error", "text-accent",
)  # fmt: skip


def luminance(color: Color) -> float:
    """Source: WCAG 2.2, relative luminance."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: Color, ground: Color) -> float:
    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast(Color.parse("#fff"), Color.parse("#000")) == pytest.approx(21)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", OWN_THEMES, ids=lambda theme: theme.name)
def test_all_text_is_legible_on_every_ground(theme: Theme) -> None:
    colors = theme.to_color_system().generate()
    pairs = [*product(INKS, GROUNDS), *product(("block-cursor-foreground",), GROUNDS[3:])]
    pairs += [("block-cursor-blurred-foreground", "block-cursor-blurred-background"), ("background", "primary")]
    pairs += [("footer-key-foreground", "footer-background"), ("footer-description-foreground", "footer-background")]
    found = {pair: contrast(Color.parse(colors[pair[0]]), Color.parse(colors[pair[1]])) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in found.items() if value < LEGIBLE} == {}


@pytest.mark.parametrize(
    ("color_system", "background", "name"),
    [
        ("truecolor", None, "localllm-dark"),
        ("truecolor", "15;0", "localllm-dark"),
        ("256", "0;15", "localllm-light"),
        ("truecolor", "0;default;7", "localllm-light"),
        ("truecolor", "12;8", "localllm-dark"),
        ("truecolor", "default;default", "localllm-dark"),
        ("standard", None, "ansi-dark"),
        ("standard", "0;15", "ansi-light"),
        (None, None, "localllm-dark"),
    ],
)
def test_a_terminal_gets_the_theme_that_fits(color_system: str | None, background: str | None, name: str) -> None:
    environ = {} if background is None else {"COLORFGBG": background}
    assert chosen_theme(color_system, environ) == name


async def test_without_colours_the_present_screen_is_marked_by_its_style(
    make_app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert callable(make_app)
    app: LocalLLM = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7")
        assert app.screen.query_one("#tab-settings").styles.text_style.underline
        assert not app.screen.query_one("#tab-chat").styles.text_style.underline
        rows = app.screen.query_one(OptionList)
        assert rows.get_component_styles("option-list--option-highlighted").text_style.reverse


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light", "nord", "solarized-light"])
async def test_every_kind_of_theme_shows_the_frame(app: LocalLLM, theme: str) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        app.theme = theme
        await pilot.press("f7")
        assert "F7 Settings" in screen_text(app).splitlines()[0]
