"""What a server shall be: the models, where it listens, who may use it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Input, Label, Static

from localllm.errors import LocalLLMError, RequestError
from tui.serving.request import EXTRA_LINE, ServeRequest, check_port, has_server_packages, new_key
from tui.widgets.pick_list import PickList
from tui.widgets.tick import Tick

Model = tuple[str, str]
"""What to ask the store for, and what to say of it."""


class ServeForm(VerticalScroll, can_focus=False):
    """The fields of a `ServeRequest`."""

    DEFAULT_CSS = """
    ServeForm {
        padding: 0 1;
    }
    ServeForm .heading {
        text-style: bold;
        margin-top: 1;
    }
    ServeForm #serve-models {
        height: auto;
        max-height: 7;
    }
    ServeForm #serve-empty {
        display: none;
        color: $text-muted;
    }
    ServeForm.-empty #serve-empty {
        display: block;
    }
    ServeForm.-empty #serve-models {
        display: none;
    }
    ServeForm Horizontal {
        height: 1;
        max-width: 100;
    }
    ServeForm Horizontal Label {
        width: 10;
        color: $text-muted;
    }
    ServeForm Horizontal Label.second {
        width: 9;
        margin-left: 2;
    }
    ServeForm Input {
        width: 1fr;
    }
    ServeForm Input.short {
        width: 14;
    }
    ServeForm #serve-note {
        margin-top: 1;
        min-height: 2;
    }
    ServeForm #serve-note.-bad {
        color: $error;
    }
    """

    class Wanted(Message):
        """The server shall be started."""

        def __init__(self, request: ServeRequest) -> None:
            super().__init__()
            self.request = request

    def compose(self) -> ComposeResult:
        yield Label("Models to serve (none picked: all of them)", classes="heading")
        yield PickList(id="serve-models")
        yield Static("There is no model on this disk yet: fetch one with F3.", id="serve-empty")
        yield Label("Where, and for whom", classes="heading")
        yield _row("Host", Input("127.0.0.1", id="serve-host"), "Port", Input("8080", id="serve-port"))
        yield _row("API key", Input(placeholder="none: Ctrl+G makes one", id="serve-key", password=True))
        yield _row("CORS", Input(placeholder="web pages that may use it, such as https://me.example", id="serve-cors"))
        yield _row("Context", Input(placeholder="what fits", id="serve-ctx"), "Slots", Input("4", id="serve-slots"))
        yield Tick("Load the first model at once", id="serve-preload", compact=True)
        yield Static("", id="serve-note", markup=False)
        yield Button("Start the server", id="serve-start", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.say_what_is_missing()

    def say_what_is_missing(self) -> None:
        """Say so where the server's packages are not there."""
        if not has_server_packages():
            self.say(f"The server's packages are not installed. Install them: {EXTRA_LINE}", is_bad=True)
            self.query_one("#serve-start", Button).disabled = True

    def show_models(self, models: Sequence[Model]) -> None:
        """Offer these, keeping what was chosen."""
        names = self.query_one(PickList)
        names.offer(dict(models))
        self.set_class(not names.n_offered, "-empty")

    def choose(self, ref: str) -> None:
        """Choose this model alone."""
        self.query_one(PickList).pick(ref)
        self.remove_class("-empty")

    def fill(self, *, host: str, port: int) -> None:
        """Put an address into the fields."""
        self._input("host").value, self._input("port").value = host, str(port)

    @property
    def key(self) -> str:
        """What is in the field of the key."""
        return self._input("key").value.strip()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            RequestError: the port is no number.
        """
        return self._input("host").value.strip() or "127.0.0.1", self._number("port", "The port") or 0

    def request(self) -> ServeRequest:
        """Return what the fields say.

        Raises:
            RequestError: a field has no sense.
        """
        host, port = self.address
        return ServeRequest(
            models=self.query_one(PickList).picked,
            host=host,
            port=port,
            key=self.key,
            origins=tuple(self._input("cors").value.replace(",", " ").split()),
            n_ctx=self._number("ctx", "The context"),
            n_slots=self._number("slots", "The number of slots") or 0,
            preload=self.query_one("#serve-preload", Tick).value,
        )

    def make_key(self) -> None:
        """Generate a key, and show it this once."""
        field = self._input("key")
        field.password = False
        field.value = new_key()
        self.say("Keep this key: it is shown until the server starts, and copied with k while it runs.")

    def hide_key(self) -> None:
        """Show no key any more."""
        self._input("key").password = True

    def submit(self) -> None:
        """Ask for the server, or say what is wrong with the fields."""
        try:
            self.post_message(self.Wanted(self.request()))
        except RequestError as error:
            self.say_error(error)

    def say(self, text: str, *, is_bad: bool = False) -> None:
        """Say something below the fields."""
        note = self.query_one("#serve-note", Static)
        note.update(text)
        note.set_class(is_bad, "-bad")

    def say_error(self, error: LocalLLMError) -> None:
        """Say what was wrong, and what to do."""
        self.say(f"{error.message} {error.hint or ''}".rstrip(), is_bad=True)

    @on(Input.Submitted)
    @on(Button.Pressed, "#serve-start")
    def _submitted(self) -> None:
        self.submit()

    @on(Input.Changed, "#serve-host")
    @on(Input.Changed, "#serve-port")
    def _address_changed(self) -> None:
        if has_server_packages():
            self.look_at_port()

    @work(exclusive=True, group="port")
    async def look_at_port(self) -> None:
        """Say now where nobody can listen."""
        try:
            host, port = self.address
            if port:
                await asyncio.to_thread(check_port, host, port)
        except RequestError as error:
            self.say_error(error)
        else:
            self.say("")

    def _input(self, name: str) -> Input:
        return self.query_one(f"#serve-{name}", Input)

    def _number(self, name: str, what: str) -> int | None:
        text = self._input(name).value.strip().replace(",", "")
        if not text:
            return None
        if not text.isdecimal() or len(text) > 9:
            raise RequestError(f"{what} is {text!r}; it must be a number.")
        return int(text)


def _row(first: str, field: Input, second: str = "", other: Input | None = None) -> Horizontal:
    field.compact = True
    parts: list[Widget] = [Label(first), field]
    if other is not None:
        other.compact = True
        other.add_class("short")
        parts += [Label(second, classes="second"), other]
    return Horizontal(*parts)
