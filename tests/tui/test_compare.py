"""A/B: both answers, what becomes of a side that fails, the divergence, votes, and every key."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from localllm.config import load_settings
from localllm.errors import ModelNotFound, RequestError
from localllm.workshop.answer_divergence import AnswerDivergence, AnswerJob
from tests.scripted_backend import Script
from tests.tui.driving import ScriptedModels, screen_text, until
from tui.app import LocalLLM
from tui.compare.contest import Contest
from tui.compare.divergence import DivergenceState, measure
from tui.compare.side import Side, parse_options
from tui.compare.strip import DivergenceStrip, bars
from tui.engines import Engines
from tui.messages import CompareModels
from tui.screens.compare import CompareScreen
from tui.screens.model_picker import ModelPicker

FOUND = AnswerDivergence(
    pieces=(b"Hel", b"lo", b"!"),
    kl=(0.01, 0.5, 0.03),
    same_top=(True, False, True),
    reference_p=(0.9, 0.3, 0.8),
    other_p=(0.85, 0.1, 0.8),
)


@pytest.fixture(autouse=True)
def files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models on the disk, by name only."""
    monkeypatch.setattr("localllm.store.resolve", lambda ref: Path(f"/models/{ref}.gguf"))


async def found(job: AnswerJob) -> AnswerDivergence:
    assert (job.reference, job.other) == ("/models/one.gguf", "/models/two.gguf")
    assert b"Hello!".startswith(bytes(job.tokens[job.n_head :]))
    return FOUND


def make_contest(
    models: ScriptedModels, *, fits: bool = True, measure: Callable[[AnswerJob], Any] = found
) -> tuple[Contest, Engines, list[int]]:
    news: list[int] = []
    engines = Engines(lambda ref: None, models, has_room=lambda ref: True)

    def fit(refs: Sequence[str], n_ctx: int | None) -> bool:
        return fits

    return Contest(engines, load_settings(), lambda: news.append(1), fit, measure), engines, news


async def asked(contest: Contest, a: str = "one", b: str = "two", **options: Any) -> None:
    contest.ask("Why?", (Side(a, options), Side(b)))
    assert contest._task is not None
    await contest._task


async def test_both_are_asked_at_once(models: ScriptedModels) -> None:
    contest, engines, news = make_contest(models)
    await asked(contest, max_tokens=2)
    assert [state.text for state in contest.states] == ["He", "Hello!"]
    assert [state.phase for state in contest.states] == ["done", "done"]
    assert contest.states[1].line == "6 tokens · 152.0 tok/s · first 0.08 s"
    assert len(engines.states) == 2 and news
    await engines.close_all()


async def test_the_divergence_is_that_of_b_along_as_answer(models: ScriptedModels) -> None:
    contest, engines, _ = make_contest(models)
    await asked(contest)
    assert contest.divergence.line == ("KL(A‖B) on A's answer: mean 0.1800, max 0.500 nats · same first choice 67%")
    await engines.close_all()


async def test_what_does_not_fit_takes_turns(models: ScriptedModels) -> None:
    contest, engines, _ = make_contest(models, fits=False)
    await asked(contest)
    assert models.backends["one"].closed and not models.backends["two"].closed
    assert [state.text for state in contest.states] == ["Hello!", "Hello!"]
    assert contest.divergence.phase == "done"
    await engines.close_all()


async def test_a_side_that_fails_leaves_the_other(models: ScriptedModels) -> None:
    models.errors["two"] = ModelNotFound("No two.", hint="Pull it.")
    contest, engines, _ = make_contest(models)
    await asked(contest)
    assert contest.states[0].phase == "done" and contest.states[1].line == "No two. Pull it."
    assert contest.divergence.phase == "none" and not contest.is_decidable
    await engines.close_all()


@pytest.mark.parametrize(
    ("a", "b", "words"), [("one", "one", "same model"), ("one", "@lab/x", "on this disk only"), ("@lab", "one", "disk")]
)
async def test_where_there_is_no_divergence_it_says_why(models: ScriptedModels, a: str, b: str, words: str) -> None:
    contest, engines, _ = make_contest(models)
    await asked(contest, a, b)
    assert words in contest.divergence.line
    await engines.close_all()


async def test_other_vocabularies_are_no_divergence(models: ScriptedModels) -> None:
    async def differ(job: AnswerJob) -> AnswerDivergence:
        raise RequestError("They have different vocabularies.", hint="Compare files of one model.")

    contest, engines, _ = make_contest(models, measure=differ)
    await asked(contest)
    expected = "KL divergence: They have different vocabularies. Compare files of one model."
    assert contest.divergence == DivergenceState("undefined", reason=expected)
    await engines.close_all()


async def test_stopping_keeps_what_was_said(models: ScriptedModels) -> None:
    import asyncio

    models.say(Script("again ", endless=True))
    contest, engines, _ = make_contest(models)
    endless = {"max_tokens": 1_000_000}
    contest.ask("Why?", (Side("one", endless), Side("two", endless)))
    while not all(state.text for state in contest.states):
        await asyncio.sleep(0.01)
    await contest.stop()
    assert [state.phase for state in contest.states] == ["stopped", "stopped"] and contest.is_decidable
    assert all(call.cancelled.is_set() for backend in models.backends.values() for call in backend.calls)
    await engines.close_all()


async def test_a_process_that_ends_without_a_word_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from localllm.errors import WorkerCrashed

    monkeypatch.setattr("tui.compare.divergence._MODULE", "this")
    job = AnswerJob(reference="a", other="b", tokens=(1, 2), n_head=1)
    with pytest.raises(WorkerCrashed):
        await measure(job)


@pytest.mark.parametrize("text", ["temperature", "temperature=hot", "no_such=1", "'"])
def test_bad_options_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_options(text)


def test_options_are_read_as_json_or_text() -> None:
    assert parse_options("temperature=0 spec=off seed=1") == {"temperature": 0, "spec": "off", "seed": 1}
    assert parse_options("") == {}


def test_bars_show_the_largest_of_each_few() -> None:
    assert bars((0.0, 1.0, 0.5), 3) == "▁█▅"
    assert bars((0.0, 1.0, 0.5, 0.0), 2) == "█▅"
    assert bars((0.0, 0.0), 5) == "▁▁" and bars((), 5) == "" and bars((1.0,), 0) == ""


def scripted_screen(app: Any, ref_a: str = "one", ref_b: str = "two") -> CompareScreen:
    screen = CompareScreen(app.services, ref_a, ref_b)
    screen._contest._fits = lambda refs, n_ctx: True
    screen._contest._measure = found
    return screen


async def test_asking_showing_and_voting(app: LocalLLM, home: Path) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(scripted_screen(app))
        await pilot.press(*"Why", "question_mark", "enter")
        await until(pilot, lambda: "same first choice 67%" in screen_text(app))
        text = screen_text(app)
        assert text.count("Hello!") == 2 and text.count("152.0 tok/s") == 2
        assert "2 lo: KL 0.5000 nats · A 30 %, B 10 % · other first choice" in text
        await pilot.press("2")
        file = home / "data" / "comparisons.jsonl"
        await until(pilot, lambda: file.exists() and file.read_text())
        record = json.loads(file.read_text())
        assert (record["vote"], record["question"], record["kl"]["n_tokens"]) == ("b", "Why?", 3)
        assert (record["a"]["model"], record["b"]["text"]) == ("one", "Hello!")
        await pilot.press("1")
        assert len(file.read_text().splitlines()) == 1, "one vote for one pair"


@pytest.mark.parametrize(("key", "vote"), [("1", "a"), ("3", "tie")])
async def test_the_other_votes(app: LocalLLM, home: Path, key: str, vote: str) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = scripted_screen(app)
        await app.push_screen(screen)
        await pilot.press("w", "enter")
        await until(pilot, lambda: screen._contest.divergence.phase == "done")
        await pilot.press(key)
        file = home / "data" / "comparisons.jsonl"
        await until(pilot, lambda: file.exists() and file.read_text())
        assert json.loads(file.read_text())["vote"] == vote


async def test_the_strip_is_gone_through_by_key(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = scripted_screen(app)
        await app.push_screen(screen)
        await pilot.press("w", "ctrl+r")
        await until(pilot, lambda: screen._contest.divergence.phase == "done")
        strip = screen.query_one(DivergenceStrip)
        await until(pilot, lambda: strip.display)
        strip.focus()
        places = []
        for key in ("left", "left", "right", "end", "home", "n"):
            await pilot.press(key)
            places.append(strip.place)
        assert places == [0, 0, 1, 2, 0, 1]


async def test_escape_stops_and_then_leaves(app: LocalLLM, models: ScriptedModels) -> None:
    models.say(Script("again ", endless=True))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = scripted_screen(app)
        await app.push_screen(screen)
        for name in "ab":
            screen.query_one(f"#options-{name}", Input).value = "max_tokens=1000000"
        await pilot.press("w", "enter")
        await until(pilot, lambda: all(state.text for state in screen._contest.states))
        await pilot.press("3")
        assert not screen._has_voted, "nothing is decided while they speak"
        await pilot.press("escape")
        await until(pilot, lambda: "stopped" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, CompareScreen))


async def test_f9_brings_it_and_asks_for_what_is_missing(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("f9")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert app.focused is app.screen.query_one("#ref-a", Input)
        await pilot.press(*"one", "enter")
        assert app.focused is app.screen.query_one("#ref-b", Input)
        await pilot.press(*"two", "enter")
        assert app.focused is app.screen.query_one("#question", Input)
        await pilot.press("w", "tab")
        app.screen.query_one("#options-b", Input).value = "temperature=hot"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "temperature is 'hot'" in screen_text(app))


async def test_models_are_chosen_from_a_list(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.chat.choices import HERE, ModelChoice

    monkeypatch.setattr("tui.screens.model_picker.model_choices", lambda: [ModelChoice("three", HERE)])
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(scripted_screen(app, "one", ""))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, ModelPicker) and "three" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert app.screen.query_one("#ref-b", Input).value == "three"
        assert app.focused is app.screen.query_one("#question", Input)


async def test_two_marked_models_are_compared(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        app.post_message(CompareModels("one", "two"))
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        values = [app.screen.query_one(f"#ref-{name}", Input).value for name in "ab"]
        assert values == ["one", "two"] and app.focused is app.screen.query_one("#question", Input)
