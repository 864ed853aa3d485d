"""The token view: an answer token by token, and another way from any of them."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Label

from localllm.errors import LocalLLMError
from localllm.printable import marked
from tui.tokens.alternatives import Alternatives, percent
from tui.tokens.answer import N_TOP, AnswerStats, AnswerToView, Resample, piece_text, resampled, shown_tokens
from tui.tokens.flow import TokenFlow

if TYPE_CHECKING:
    from localllm.llm import TokenChoice

UNCERTAIN = 0.5
"""A token that was less likely than this is worth a stop."""
_SHOW_EVERY = 16


class TokenScreen(Screen[Resample | None]):
    """Shows how likely each token was; the answer is what the user wants instead, or None.

    Args:
        answer: what it is about.
    """

    DEFAULT_CSS = """
    TokenScreen {
        & #heading { width: 1fr; background: $panel; padding: 0 1; text-style: bold; }
        & #flow { width: 1fr; padding: 0 1; }
        & #side { width: 33; padding: 0 1; border-left: solid $panel; }
        & #here { height: auto; margin: 0 0 1 0; }
        & #sums { width: 1fr; height: auto; color: $text-muted; padding: 0 1; border-top: solid $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Token", key_display="←→", id="tokens.previous"),
        Binding("right", "step(1)", "Next token", show=False, id="tokens.next"),
        Binding("up", "choose(-1)", "Instead", key_display="↑↓", id="tokens.higher"),
        Binding("down", "choose(1)", "Next candidate", show=False, id="tokens.lower"),
        Binding("enter", "resample", "Go on with it", id="tokens.resample"),
        Binding("d", "draw", "Draw again", id="tokens.draw", tooltip="Let the model choose again from here"),
        Binding("n", "uncertain(1)", "Uncertain", key_display="n/p", id="tokens.next_uncertain"),
        Binding("p", "uncertain(-1)", "Uncertain token before", show=False, id="tokens.previous_uncertain"),
        Binding("pagedown,ctrl+down", "line(1)", "A line down", show=False, id="tokens.line_down"),
        Binding("pageup,ctrl+up", "line(-1)", "A line up", show=False, id="tokens.line_up"),
        Binding("home", "end(0)", "First token", show=False, id="tokens.first"),
        Binding("end", "end(-1)", "Last token", show=False, id="tokens.last"),
        Binding("escape", "leave", "Back", id="tokens.leave"),
    ]

    def __init__(self, answer: AnswerToView) -> None:
        super().__init__()
        self._answer = answer
        self._choices: list[TokenChoice] = list(answer.choices)

    def compose(self) -> ComposeResult:
        yield Label(Content(f"Tokens of an answer by {marked(self._answer.llm.info.name)}"), id="heading")
        with Horizontal():
            yield TokenFlow(id="flow")
            with Vertical(id="side"):
                yield Label("", id="here", markup=False)
                yield Alternatives(id="alternatives")
        yield Label("", id="sums", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._flow.focus()
        if self._choices:
            self._show()
        else:
            self.run_worker(self._score(), exit_on_error=False)

    @property
    def _flow(self) -> TokenFlow:
        return self.query_one("#flow", TokenFlow)

    @property
    def _side(self) -> Alternatives:
        return self.query_one("#alternatives", Alternatives)

    def on_token_flow_moved(self, event: TokenFlow.Moved) -> None:
        event.stop()
        token = self._flow.tokens[event.place]
        rank = f"rank {token.rank}" if token.rank else f"below the first {len(token.choice.top)}"
        text = f"{piece_text(token.choice.chosen.piece)}\n{percent(token.p).strip()}, {rank}"
        surprise = -token.choice.chosen.logprob / math.log(2)
        text += f"\n{surprise:.1f} bits; entropy ≥ {token.entropy_bits:.1f}"
        self.query_one("#here", Label).update(Content(text))
        self._side.show(token)

    def action_step(self, n: int) -> None:
        """Go to the next or previous token."""
        self._flow.move_to(self._flow.place + n)

    def action_line(self, n: int) -> None:
        """Go a line down or up."""
        self._flow.move_lines(n)

    def action_end(self, place: int) -> None:
        """Go to the first or the last token."""
        self._flow.move_to(place % max(len(self._flow.tokens), 1))

    def action_uncertain(self, step: int) -> None:
        """Go to the next token that was less likely than the rest together."""
        tokens, place = self._flow.tokens, self._flow.place + step
        while 0 <= place < len(tokens):
            if tokens[place].p < UNCERTAIN:
                self._flow.move_to(place)
                return
            place += step
        self.notify("There is no uncertain token further on.", severity="information")

    def action_choose(self, n: int) -> None:
        """Highlight another candidate."""
        side = self._side
        if side.candidates:
            side.highlighted = max(
                0, min((-1 if side.highlighted is None else side.highlighted) + n, len(side.candidates) - 1)
            )

    def action_resample(self) -> None:
        """Begin a new answer with what is before this token, and the highlighted one in its stead."""
        candidate = self._side.candidate
        if candidate is not None:
            self._leave_with(resampled(self._flow.tokens, self._flow.place, candidate.piece))

    def action_draw(self) -> None:
        """Begin a new answer with what is before this token."""
        if self._flow.tokens:
            self._leave_with(resampled(self._flow.tokens, self._flow.place))

    def action_leave(self) -> None:
        """Go back without another answer."""
        self.dismiss(None)

    def on_option_list_option_selected(self, event: Alternatives.OptionSelected) -> None:
        event.stop()
        self.action_resample()

    def _leave_with(self, wanted: Resample | None) -> None:
        if wanted is None:
            self.notify("That would end within a character. Choose a token before or after it.", severity="warning")
        else:
            self.dismiss(wanted)

    async def _score(self) -> None:
        """Compute the probabilities of an answer that came without them."""
        self._say("The answer is read again, token by token; that takes about as long as writing it did. Esc stops it.")
        answer, n_chars = self._answer, 0
        try:
            async with aclosing(answer.llm.ascore(answer.all_messages, n_top=N_TOP, **answer.options)) as choices:
                async for choice in choices:
                    self._choices.append(choice)
                    n_chars += len(choice.chosen.piece.decode("utf-8", "ignore"))
                    if len(self._choices) % _SHOW_EVERY == 0:
                        self._show()
                        self._say(f"Read so far: {min(n_chars / len(answer.text), 1.0):.0%}. Esc stops it.")
        except LocalLLMError as error:
            self._say(f"{error.message} {error.hint or ''}".strip())
            return
        self._show()

    def _show(self) -> None:
        tokens = shown_tokens(self._choices)
        if not tokens:
            self._say("The answer has no tokens.")
            return
        self._flow.show(tokens)
        stats = AnswerStats.of(tokens)
        self._say(
            f"{stats.n_tokens:,} tokens · perplexity {stats.perplexity:.2f} · entropy ≥ {stats.entropy_bits:.2f} bits a"
            " token · the model's own probabilities, before sampling"
        )

    def _say(self, text: str) -> None:
        self.query_one("#sums", Label).update(Content(marked(text)))
