"""The line about the answer: what it says, and what it leaves out where there is no room."""

from __future__ import annotations

from tui.chat.meter import Figures
from tui.engines import EngineState
from tui.widgets.chat_footer import fitted, gauge, parts_of

FULL = Figures(38.4, 0.24, 1310, 8192, n_reused=1024, n_evicted=512, speedup=1.23)


def line(width: int, figures: Figures = FULL, state: EngineState | None = None) -> str:
    return fitted(parts_of("qwen3-8b", figures, "writing", state), width).plain


def test_all_figures_are_shown_where_there_is_room() -> None:
    assert line(160) == (
        "qwen3-8b · 38 tok/s · first 0.2 s · ━─────── 1,310 of 8,192 · reused 1,024 · forgot 512 · draft ×1.2"
    )


def test_what_matters_least_goes_first_and_the_line_never_overflows() -> None:
    by_weight = ["of 8,192", "tok/s", "forgot", "first", "reused", "draft"]
    seen = set()
    for width in range(110, 8, -1):
        shown = line(width)
        kept = [word for word in by_weight if word in shown]
        assert kept == by_weight[: len(kept)]
        assert len(shown) <= width and shown.startswith("qwen3")
        seen.add(len(kept))
    assert seen == set(range(7))


def test_a_model_that_loads_says_how_far() -> None:
    assert "loading 40%" in line(80, Figures(), EngineState("qwen3-8b", "loading", 0.4))


def test_without_figures_there_is_the_model_alone() -> None:
    assert line(80, Figures()) == "qwen3-8b"


def test_a_name_of_a_model_cannot_command_the_terminal() -> None:
    assert "\x1b" not in fitted(parts_of("evil\x1b[2J\nname", Figures(), "idle", None), 80).plain


def test_a_context_that_is_nearly_full_is_full_on_the_gauge() -> None:
    assert gauge(130_000, 131_072).plain == "━━━━━━━━ 130k of 131.1k"
