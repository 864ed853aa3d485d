"""The first start: what this is, and a model to begin with, one key away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localllm.gguf.problems import printable
from tui.first_run import Offer, demo_offer, mark_welcomed, offers
from tui.messages import ChatWith, FetchModel
from tui.modes import ALL_MODES

WHAT_THIS_IS = """\
Run language models on this computer: nothing you write leaves it.
Find models with F3, make them smaller with F4, serve them with F5.
F1 shows what can be done, Ctrl+P finds it, Ctrl+Q quits."""


class WelcomeScreen(ModalScreen[None]):
    """Shown once. Enter begins a chat with the model at the cursor, which is fetched if it is not here."""

    DEFAULT_CSS = """
    WelcomeScreen {
        align: center middle;
        & > Vertical {
            width: 76;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 1 2;
            border: round $primary;
            border-title-color: $primary;
            border-title-style: bold;
            background: $surface;
        }
        #welcome-begin { margin-top: 1; text-style: bold; }
        OptionList {
            height: auto;
            max-height: 10;
            border: none;
            padding: 0;
            background: transparent;
            &:focus { border: none; background-tint: transparent 0%; }
        }
        OptionList:nocolor > .option-list--option-highlighted { text-style: reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "begin", "Begin", id="welcome.begin", tooltip="Chat with the model at the cursor"),
        Binding("escape", "look_around", "Look around first", id="welcome.leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._offers: list[Offer] = []

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = "Welcome to localllm"
            frame.border_subtitle = "Enter begins, Esc looks around first"
            yield Static(WHAT_THIS_IS, markup=False)
            yield Static("", id="welcome-begin", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        demo = demo_offer()
        self._show([demo] if demo else [])
        self.query_one(OptionList).focus()
        self.run_worker(self._look_for_more())

    async def _look_for_more(self) -> None:
        await asyncio.to_thread(mark_welcomed)
        self._show([*self._offers, *await asyncio.to_thread(offers)], is_all=True)

    def _show(self, found: Iterable[Offer], *, is_all: bool = False) -> None:
        self._offers = [*found]
        begin = self.query_one("#welcome-begin", Static)
        if self._offers:
            begin.update("Begin with:")
        else:
            begin.update("No model fits this machine. F3 shows what there is." if is_all else "Looking for models …")
        options = self.query_one(OptionList)
        at = options.highlighted or 0
        options.set_options(Option(_line(offer)) for offer in self._offers)
        options.highlighted = at if self._offers else None

    @on(OptionList.OptionSelected)
    def action_begin(self) -> None:
        at = self.query_one(OptionList).highlighted
        self.dismiss()
        if at is not None:
            offer = self._offers[at]
            self.app.post_message(ChatWith(offer.ref) if offer.is_here else FetchModel(offer.ref))

    def on_key(self, event: events.Key) -> None:
        # The text speaks of these keys, and a screen like this one hides the app's.
        mode = next((mode for mode in ALL_MODES if mode.key == event.key), None)
        if mode is not None:
            event.stop()
            self.dismiss()
            self.app.call_later(self.app.switch_mode, mode.name)

    def action_look_around(self) -> None:
        self.dismiss()


def _line(offer: Offer) -> Content:
    title = Content(f" {printable(offer.title, 60)} ").truncate(40, ellipsis=True)
    return title + Content.styled(f" {offer.note}", "$text-muted")
