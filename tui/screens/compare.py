"""A/B: one question, two models, side by side."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, Label

from localllm.errors import LocalLLMError
from localllm.printable import marked
from tui.compare.answer_panel import AnswerPanel
from tui.compare.contest import Contest
from tui.compare.side import Side, parse_options
from tui.compare.strip import DivergenceStrip
from tui.compare.votes import Vote, keep_vote
from tui.messages import EngineChanged
from tui.services import Services

_SHOW_EVERY_S = 0.05
_VOTES: dict[Vote, str] = {"a": "A is better", "b": "B is better", "tie": "Both are as good"}


class CompareScreen(Screen[None]):
    """Asks two models the same.

    Args:
        services: engines and settings.
        ref_a: the first model; "" is to be chosen.
        ref_b: the second.
        contest: None: a real one. Tests script one.
    """

    DEFAULT_CSS = """
    CompareScreen {
        & #heading { width: 1fr; background: $panel; padding: 0 1; text-style: bold; }
        & Input { border: none; height: 1; padding: 0 1; }
        & Input:focus { background: $panel; }
        & .pair { height: 1; }
        & .pair Label { width: 3; padding: 0 0 0 1; color: $text-muted; }
        & .pair Input { width: 1fr; }
        & #question { margin: 1 0; }
        & #question-row { height: 3; }
        & #question-row Label { width: 3; padding: 1 0 0 1; color: $primary; }
        & #answers { height: 1fr; }
        & #divergence { width: 1fr; height: auto; padding: 0 1; }
        & DivergenceStrip { display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "choose_model", "Model", id="compare.model", tooltip="Choose the model of A or B"),
        Binding("ctrl+r", "ask", "Ask", id="compare.ask"),
        Binding("1", "vote('a')", "A, B better, tie", key_display="1 2 3", id="compare.a"),
        Binding("2", "vote('b')", "B is better", show=False, id="compare.b"),
        Binding("3", "vote('tie')", "Tie", show=False, id="compare.tie"),
        Binding("escape", "leave", "Stop, back", id="compare.leave"),
    ]

    def __init__(self, services: Services, ref_a: str = "", ref_b: str = "", contest: Contest | None = None) -> None:
        super().__init__()
        self._services = services
        self._refs = (ref_a, ref_b)
        self._has_news = True
        self._has_voted = False
        self._contest = contest or Contest(services.engines, services.settings, self._changed)

    def compose(self) -> ComposeResult:
        yield Label("Compare: one question, two models", id="heading")
        for options in (False, True):
            with Horizontal(classes="pair"):
                for name, ref in zip("ab", self._refs, strict=True):
                    yield Label("" if options else name.upper())
                    if options:
                        yield Input(placeholder="its options, such as temperature=0 seed=1", id=f"options-{name}")
                    else:
                        yield Input(ref, placeholder="a model; Ctrl+O lists them", id=f"ref-{name}")
        with Horizontal(id="question-row"):
            yield Label("?")
            yield Input(placeholder="The question, then Enter", id="question")
        with Horizontal(id="answers"):
            yield AnswerPanel("A")
            yield AnswerPanel("B")
        yield Label("", id="divergence", markup=False)
        yield DivergenceStrip(id="strip")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        first_empty = next((name for name, ref in zip("ab", self._refs, strict=True) if not ref), None)
        self.query_one("#question" if first_empty is None else f"#ref-{first_empty}", Input).focus()
        self.set_interval(_SHOW_EVERY_S, self._show)

    async def on_unmount(self) -> None:
        await self._contest.stop()

    def on_engine_changed(self, event: EngineChanged) -> None:
        state = self._services.engines.state(event.ref)
        if state is not None and state.phase == "loading":
            self._contest.loading(event.ref, state.share)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_ask()

    def action_ask(self) -> None:
        """Ask both."""
        question = self.query_one("#question", Input).value.strip()
        empty = next((name for name in ("#ref-a", "#ref-b") if not self.query_one(name, Input).value.strip()), None)
        if empty is not None or not question:
            self.query_one(empty or "#question", Input).focus()
            return
        try:
            sides = self._side("a"), self._side("b")
        except LocalLLMError as error:
            self._notify(error)
            return
        self._has_voted = False
        self._contest.ask(question, sides)
        self.query_one("#answer-a .answer", VerticalScroll).focus()

    def action_choose_model(self) -> None:
        """Choose the model of the side where one is; A where one is at neither."""
        from tui.screens.model_picker import ModelPicker

        focused = self.focused.id if self.focused is not None else None
        name = "b" if focused in ("ref-b", "options-b") else "a"
        field = self.query_one(f"#ref-{name}", Input)

        def chosen(ref: str | None) -> None:
            if ref is not None:
                field.value = ref
                self.query_one("#ref-b" if name == "a" else "#question", Input).focus()

        self.app.push_screen(ModelPicker(self._services.engines, field.value or None), chosen)

    def action_vote(self, vote: Vote) -> None:
        """Keep which answer was better, with both texts."""
        contest = self._contest
        if not contest.is_decidable or contest.sides is None:
            self.notify("There are no two answers to choose from yet.", severity="warning")
            return
        if self._has_voted:
            self.notify("Your vote on these two is kept already.")
            return
        self._has_voted = True
        self.run_worker(self._keep(vote), exit_on_error=False)

    async def action_leave(self) -> None:
        """Stop what is going on, or go back."""
        if self._contest.is_busy:
            await self._contest.stop()
        else:
            self.dismiss(None)

    async def _keep(self, vote: Vote) -> None:
        contest = self._contest
        assert contest.sides is not None
        try:
            file = await asyncio.to_thread(
                keep_vote, vote, contest.question, contest.sides, tuple(contest.states), contest.divergence
            )
        except LocalLLMError as error:
            self._has_voted = False
            self._notify(error)
        else:
            self.notify(f"{_VOTES[vote]}: kept in {file}", markup=False)

    def _side(self, name: str) -> Side:
        options = parse_options(self.query_one(f"#options-{name}", Input).value)
        return Side(self.query_one(f"#ref-{name}", Input).value.strip(), options)

    def _changed(self) -> None:
        self._has_news = True

    def _show(self) -> None:
        if not self._has_news:
            return
        self._has_news = False
        for name, state in zip("ab", self._contest.states, strict=True):
            self.query_one(f"#answer-{name}", AnswerPanel).show(state)
        divergence = self._contest.divergence
        self.query_one("#divergence", Label).update(Content(marked(divergence.line)))
        self.query_one(DivergenceStrip).show(divergence.found)

    def _notify(self, error: LocalLLMError) -> None:
        self.notify(marked(f"{error.message} {error.hint or ''}".strip()), severity="error", markup=False)
