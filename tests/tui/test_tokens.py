"""The token view: what it shows, every key, and what comes of choosing another token."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.widgets import Label

from localllm.engine.events import TokenLogprob
from localllm.errors import RequestError
from localllm.llm import LLM, TokenChoice
from tests.scripted_backend import ScriptedBackend
from tests.tui.driving import screen_text, until
from tui.app import LocalLLM
from tui.screens.tokens import TokenScreen
from tui.tokens.alternatives import bar, percent
from tui.tokens.answer import AnswerStats, AnswerToView, Resample, ShownToken, piece_text, resampled, shown_tokens
from tui.tokens.flow import TokenFlow, lay_out, level

QUESTION = [{"role": "user", "content": "Why?"}]


def choice(piece: bytes | str, p: float = 0.9, **others: float) -> TokenChoice:
    data = piece.encode() if isinstance(piece, str) else piece
    chosen = TokenLogprob(0, data, math.log(p))
    rest = [TokenLogprob(number, text.encode(), math.log(q)) for number, (text, q) in enumerate(others.items(), 1)]
    return TokenChoice(chosen, tuple(sorted([chosen, *rest], key=lambda one: -one.logprob)))


CHOICES = (
    choice("Because"),
    choice(" light", 0.3, dark=0.6),
    choice(" scatters", 0.95),
    choice(".\n", 0.99),
    choice("Blue", 0.02, Red=0.5, Green=0.2),
    choice(" most", 0.8),
)
TEXT = "Because light scatters.\nBlue most"


def answer(choices: tuple[TokenChoice, ...] = CHOICES, said: str = TEXT, llm: LLM | None = None) -> AnswerToView:
    return AnswerToView(QUESTION, TEXT, llm or LLM(ScriptedBackend(said)), choices)


async def after(app: LocalLLM, *keys: str, view: AnswerToView | None = None) -> Any:
    """Return what the view answers when these keys were pressed."""
    answers: list[Resample | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(view or answer()), answers.append)
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()
        return answers[0] if answers else app.screen.query_one(TokenFlow).place


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        (["right"], 1),
        (["right", "right", "left"], 1),
        (["left"], 0),
        (["end"], 5),
        (["end", "right"], 5),
        (["end", "home"], 0),
        (["pagedown"], 4),
        (["pagedown", "pageup"], 0),
        (["ctrl+down", "ctrl+down"], 5),
        (["n"], 1),
        (["n", "n"], 4),
        (["n", "n", "n"], 4),
        (["end", "p"], 4),
        (["escape"], None),
        (["right", "d"], Resample("Because")),
        (["d"], Resample("")),
        (["n", "up", "enter"], Resample("Becausedark")),
        (["n", "enter"], Resample("Because light")),
        (["n", "n", "up", "up", "enter"], Resample("Because light scatters.\nRed")),
        (["n", "n", "up", "up", "down", "enter"], Resample("Because light scatters.\nGreen")),
    ],
)
async def test_every_key(app: LocalLLM, keys: list[str], result: Any) -> None:
    assert await after(app, *keys) == result


async def test_the_present_token_is_told_in_numbers(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(answer()))
        await pilot.press("n")
        text = screen_text(app)
        assert "30 %, rank 2" in text and "1.7 bits" in text
        assert "dark          60 % ██████" in text and "▸␣light        30 % ███" in text
        assert "6 tokens · perplexity 2.50" in text


async def test_without_probabilities_they_are_computed(app: LocalLLM) -> None:
    async with app.run_test(size=(160, 50)) as pilot:
        await app.push_screen(TokenScreen(answer(())))
        await until(pilot, lambda: f"{len(TEXT)} tokens" in screen_text(app))
        assert "Because light scatters.⏎" in screen_text(app)


async def test_a_model_that_cannot_is_said_in_place(app: LocalLLM) -> None:
    class Refusing(LLM):
        async def ascore(self, *args: Any, **options: Any) -> Any:
            raise RequestError("Tokens are not told.", hint="Ask another.")
            yield

    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(answer((), llm=Refusing(ScriptedBackend()))))
        await until(pilot, lambda: "Tokens are not told. Ask another." in screen_text(app))
        await pilot.press("enter", "d", "n", "up", "end", "pagedown")
        assert isinstance(app.screen, TokenScreen)


async def test_half_a_character_is_no_place_to_go_on(app: LocalLLM) -> None:
    view = answer((choice(b"a"), choice(b"\xe2\x82", 0.4), choice(b"\xac")))
    assert await after(app, "end", "d", view=view) == 2


async def test_hostile_tokens_reach_the_screen_as_marks(app: LocalLLM) -> None:
    view = answer((choice("\x1b[31m"), choice("\u202e"), choice("[bold]")))
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(view))
        await pilot.pause()
        assert "␛[31m‹U+202E›[bold]" in screen_text(app)


async def test_a_click_goes_to_a_token(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(answer()))
        await pilot.pause()
        await pilot.click(TokenFlow, offset=(9, 0))
        assert app.screen.query_one(TokenFlow).place == 1


async def test_a_long_answer_is_scrolled_with_the_token(app: LocalLLM) -> None:
    view = answer(tuple(choice(f" word{number}") for number in range(3000)))
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(TokenScreen(view))
        await pilot.press("end")
        await until(pilot, lambda: "word2999" in screen_text(app))
        await pilot.press("up", "up")
        assert "word2999" in screen_text(app), "up and down are the candidates', not the text's"
        assert str(app.screen.query_one("#sums", Label).render()).startswith("3,000 tokens")


def test_a_character_of_several_tokens_is_shown_with_the_last() -> None:
    tokens = shown_tokens([choice(b"\xe2"), choice(b"\x82"), choice(b"\xac!")])
    assert [token.text for token in tokens] == ["‥", "‥", "€!"]
    assert resampled(tokens, 1) is None and resampled(tokens, 0, "é".encode()) == Resample("é")


def test_single_tokens_show_what_is_invisible() -> None:
    assert [piece_text(piece) for piece in (b" a\n", b"\xff", b"", b"\t")] == ["␣a⏎", "‹FF›", "‹nothing›", "⇥"]


def test_numbers_of_an_answer() -> None:
    tokens = [ShownToken("a", choice("a", 0.5, b=0.5)), ShownToken("b", choice("b", 0.125, c=0.875))]
    stats = AnswerStats.of(tokens)
    assert math.isclose(stats.perplexity, 4.0)
    assert math.isclose(tokens[0].entropy_bits, 1.0) and (tokens[0].rank, tokens[1].rank) == (1, 2)
    assert ShownToken("x", TokenChoice(TokenLogprob(9, b"x", -9.0), ())).rank is None


@pytest.mark.parametrize(("p", "text"), [(1, "100 %"), (0.5, " 50 %"), (0.012, "1.2 %"), (0.0001, "<.1 %")])
def test_probabilities_take_five_cells(p: float, text: str) -> None:
    assert percent(p) == text


def test_bars_and_levels() -> None:
    assert [bar(share, 2) for share in (0, 0.25, 0.5, 1, 7)] == ["  ", "▌ ", "█ ", "██", "██"]
    assert [level(p) for p in (1.0, 0.6, 0.3, 0.1, 0.01)] == [0, 1, 2, 3, 4]


@given(st.lists(st.text(max_size=20), max_size=30), st.integers(2, 30))
@example(["\U0001f3fb", "a\U0001f3fb" * 9], 3)
def test_lines_hold_all_of_the_text_and_never_more_than_the_width(texts: list[str], width: int) -> None:
    tokens = shown_tokens([choice(text.encode("utf-8", "replace")) for text in texts])
    lines = lay_out(tokens, width)
    assert all(sum(cell_len(piece.text) for piece in line) <= width for line in lines)
    shown = "".join(piece.text for line in lines for piece in line)
    assert shown == "".join(token.text.replace("\t", "    ").replace("\n", "⏎") for token in tokens)
