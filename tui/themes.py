"""Our own two themes, and which theme a terminal gets that asked for none."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

DARK = Theme(
    name="localllm-dark",
    primary="#7fb4ca",
    secondary="#9aa5ce",
    accent="#e0af68",
    success="#98bb6c",
    warning="#e6c384",
    error="#f0868b",
    foreground="#dcdfe4",
    background="#16181d",
    surface="#1c1f26",
    panel="#262a33",
    dark=True,
    variables={
        "block-cursor-background": "#263a46",
        "block-cursor-foreground": "#f2f4f7",
        "block-cursor-blurred-background": "#28323b",
        "block-cursor-blurred-foreground": "#dcdfe4",
        "block-hover-background": "#2c313b",
        "border": "#7fb4ca",
        "border-blurred": "#3a404c",
        "scrollbar": "#3d4553",
        "scrollbar-hover": "#52607a",
        "scrollbar-active": "#7fb4ca",
        "scrollbar-background": "#1a1d23",
        "input-selection-background": "#7fb4ca 35%",
        "footer-key-foreground": "#7fb4ca",
        "footer-description-foreground": "#a9afba",
        "text-muted": "#a3a9b5",
        "button-color-foreground": "#16181d",
    },
)

LIGHT = Theme(
    name="localllm-light",
    primary="#1f6a80",
    secondary="#555c84",
    accent="#84540d",
    success="#3f6b1c",
    warning="#7d5700",
    error="#b02a3d",
    foreground="#24272e",
    background="#fbfaf7",
    surface="#f4f2ed",
    panel="#e9e6df",
    dark=False,
    variables={
        "block-cursor-background": "#cfe3e8",
        "block-cursor-foreground": "#15181d",
        "block-cursor-blurred-background": "#e0e9ea",
        "block-cursor-blurred-foreground": "#24272e",
        "block-hover-background": "#e2ded5",
        "border": "#1f6a80",
        "border-blurred": "#c4bfb4",
        "scrollbar": "#c8c3b8",
        "scrollbar-hover": "#a9a498",
        "scrollbar-active": "#1f6a80",
        "scrollbar-background": "#f1eee8",
        "input-selection-background": "#1f6a80 25%",
        "footer-key-foreground": "#1f6a80",
        "footer-description-foreground": "#565b66",
        "text-muted": "#565b66",
        "button-color-foreground": "#fbfaf7",
    },
)

OWN_THEMES = (DARK, LIGHT)

_FEW_COLOURS = ("standard", "windows")
_DARK_BACKGROUNDS = ("0", "1", "2", "3", "4", "5", "6", "8")


def chosen_theme(color_system: str | None, environ: Mapping[str, str]) -> str:
    """Return the name of the theme that fits a terminal.

    Args:
        color_system: what it can show, in rich's words.
        environ: COLORFGBG is in it where the terminal tells its background: "15;0" is light on dark.
    """
    background = environ.get("COLORFGBG", "0").rpartition(";")[2]
    is_dark = background in _DARK_BACKGROUNDS or not background.isdecimal()
    # With 16 colours our own would all be rounded to the same few; the terminal's own palette is legible.
    if color_system in _FEW_COLOURS:
        return "ansi-dark" if is_dark else "ansi-light"
    return DARK.name if is_dark else LIGHT.name
