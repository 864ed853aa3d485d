"""Serving models over HTTP: the form, and the server that runs."""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar
from urllib.parse import urlsplit

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from localllm.config import API_KEY_VARIABLE
from localllm.errors import LocalLLMError
from tui.messages import ModelsChanged, ServerChanged
from tui.screens.confirm import ConfirmScreen
from tui.screens.mode import ModeScreen
from tui.serving.api import NeedsKey
from tui.serving.server import Server
from tui.serving.snippets import snippets
from tui.widgets.activity import Activity
from tui.widgets.panes import Pane, Panes
from tui.widgets.serve_form import Model, ServeForm
from tui.widgets.served_models import ServedModels
from tui.widgets.server_head import ServerHead
from tui.widgets.server_log import ServerLog
from tui.widgets.snippet_view import SnippetView

_FORM = ("start", "attach", "make_key")
_UP = ("copy_url", "copy_key", "next_snippet", "copy_snippet", "toggle_load", "toggle_pin", "stop", "leave")
_SEEN = ("next_pane", "filter_log")
_ENDED = ("restart", "to_form")


class ServeScreen(ModeScreen):
    """The form while no server runs, else the server."""

    MODE = "serve"
    DEFAULT_CSS = """
    ServeScreen ContentSwitcher, ServeScreen #serve-running {
        height: 1fr;
    }
    ServeScreen #serve-panes.-roomy > #pane-log {
        column-span: 2;
    }
    ServeScreen.-ended #served-models {
        display: none;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "Start", id="serve.start", tooltip="Start the server"),
        Binding("ctrl+t", "attach", "Attach", id="serve.attach", tooltip="Watch the server that runs at this address"),
        Binding("ctrl+g", "make_key", "New key", id="serve.make_key", tooltip="Generate an API key"),
        Binding("u", "copy_url", "Copy URL", id="serve.copy_url", tooltip="Copy the base URL"),
        Binding("k", "copy_key", "Copy key", id="serve.copy_key", show=False, tooltip="Copy the API key"),
        Binding("s", "next_snippet", "Snippet", id="serve.next_snippet", tooltip="Show the next ready snippet"),
        Binding("y", "copy_snippet", "Copy", id="serve.copy_snippet", tooltip="Copy the snippet that is shown"),
        Binding("l", "toggle_load", "Load", id="serve.toggle_load", tooltip="Load the model, or unload it"),
        Binding("p", "toggle_pin", "Pin", id="serve.toggle_pin", tooltip="Keep the model loaded, or let it give way"),
        Binding("v", "next_pane", "View", id="serve.next_pane", tooltip="Show activity, connecting, or the log"),
        Binding(
            "f", "filter_log", "Level", id="serve.filter_log", show=False, tooltip="Which lines of the log are shown"
        ),
        Binding("d", "leave", "Detach", id="serve.leave", tooltip="Leave the server running when the app ends"),
        Binding("x", "stop", "Stop", id="serve.stop", tooltip="Stop the server"),
        Binding("r", "restart", "Restart", id="serve.restart", tooltip="Start the server again"),
        Binding("n", "to_form", "Change", id="serve.to_form", tooltip="Back to the form"),
    ]

    def compose_body(self) -> ComposeResult:
        with ContentSwitcher(initial="serve-form"):
            yield ServeForm(id="serve-form")
            with Vertical(id="serve-running"):
                yield ServerHead(id="server-head")
                yield ServedModels(id="served-models")
                yield Panes(
                    Pane("Activity", Activity(id="activity"), id="pane-activity"),
                    Pane("Connect", SnippetView(id="snippets"), id="pane-connect"),
                    Pane("Log", ServerLog(id="server-log"), id="pane-log"),
                    id="serve-panes",
                )

    @property
    def server(self) -> Server:
        return self.services.server

    def on_mount(self) -> None:
        self.load_models()
        self._show()
        if not self.server.is_up:
            self.find_server()

    def on_screen_resume(self) -> None:
        self.server.is_watched = True
        self._show()

    def on_screen_suspend(self) -> None:
        self.server.is_watched = False

    async def choose(self, ref: str) -> None:
        """Choose this model for the next server."""
        if self.server.is_up:
            self.notify(f"A server runs. Stop it with x to serve {ref}.", markup=False)
        self.query_one(ServeForm).choose(ref)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        phase = self.server.view.phase
        is_form = self._shows_form
        if action in _FORM:
            return is_form
        if action in _ENDED:
            return phase == "ended" and not is_form
        if action in _SEEN:
            return not is_form
        if action == "copy_key":
            return phase == "running" and bool(self.server.key)
        if action == "leave":
            return phase == "running"
        if action == "stop":
            return self.server.is_up
        return phase == "running" if action in _UP else True

    # The form.

    @work(exclusive=True, group="models")
    async def load_models(self) -> None:
        """Look at the disk."""
        self.query_one(ServeForm).show_models(await asyncio.to_thread(_stored_models))

    @work(exclusive=True, group="server")
    async def find_server(self) -> None:
        """Attach to the server that was left running, if there is one."""
        form = self.query_one(ServeForm)
        try:
            if await self.server.attach_again(form.key or os.environ.get(API_KEY_VARIABLE, "")):
                self.notify("The server that was left running is watched again.")
        except NeedsKey as error:
            parts = urlsplit(error.url)
            form.fill(host=parts.hostname or "", port=parts.port or 0)
            form.say(f"A server was left running at {error.url}. Put its key in, and attach with Ctrl+T.")
        except LocalLLMError as error:
            form.say_error(error)

    def action_start(self) -> None:
        self.query_one(ServeForm).submit()

    def action_make_key(self) -> None:
        self.query_one(ServeForm).make_key()

    @on(ServeForm.Wanted)
    def _wanted(self, event: ServeForm.Wanted) -> None:
        self.start_server()

    @work(exclusive=True, group="server")
    async def start_server(self) -> None:
        """Start what the form says."""
        form = self.query_one(ServeForm)
        try:
            await self.server.start(form.request())
        except LocalLLMError as error:
            form.say_error(error)
        else:
            form.say("")
            form.hide_key()

    @work(exclusive=True, group="server")
    async def action_attach(self) -> None:
        form = self.query_one(ServeForm)
        try:
            host, port = form.address
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            await self.server.attach(url, form.key or os.environ.get(API_KEY_VARIABLE, ""))
        except LocalLLMError as error:
            form.say_error(error)

    # The server.

    def action_copy_url(self) -> None:
        self._copy(f"{self.server.view.url}/v1", "The base URL")

    def action_copy_key(self) -> None:
        self._copy(self.server.key, "The key")

    def action_next_snippet(self) -> None:
        panes = self.query_one(Panes)
        if panes.shown == "pane-connect" or panes.is_roomy:
            self.query_one(SnippetView).show_next()
        panes.show_pane("pane-connect")

    def action_copy_snippet(self) -> None:
        snippet = self.query_one(SnippetView).snippet
        if snippet is not None:
            self._copy(snippet.text, f"The snippet ({snippet.title})")

    def action_next_pane(self) -> None:
        self.query_one(Panes).show_next()

    def action_filter_log(self) -> None:
        self.query_one(Panes).show_pane("pane-log")
        self.query_one(ServerLog).cycle_level()

    def action_toggle_load(self) -> None:
        model = self._chosen
        if model is not None:
            self.manage("unload" if model["state"] == "loaded" else "load", str(model["id"]))

    def action_toggle_pin(self) -> None:
        model = self._chosen
        if model is not None:
            self.manage("unpin" if model["pinned"] else "pin", str(model["id"]))

    @work(group="manage")
    async def manage(self, verb: str, model: str) -> None:
        """Have the server do something with a model."""
        try:
            await self.server.manage(verb, model)
        except LocalLLMError as error:
            self._complain(error)

    @work(exclusive=True, group="server")
    async def action_leave(self) -> None:
        if not self.server.view.is_own:
            self.server.look_away()
            self.notify("The server runs on; it is not watched any more.")
            return
        try:
            await self.server.leave()
        except LocalLLMError as error:
            self._complain(error)
        else:
            self.notify("The server runs on when the app ends, and is found at the next start.")

    @work(exclusive=True, group="server")
    async def action_stop(self) -> None:
        n_active = self.server.view.n_active
        is_second = self.server.view.phase == "stopping"
        if n_active or is_second:
            what = "1 request runs" if n_active == 1 else f"{n_active} requests run"
            question = "End it at once? Running answers break off." if is_second else f"{what}. Stop the server?"
            if not await self.app.push_screen_wait(ConfirmScreen(question, "End" if is_second else "Stop")):
                return
        try:
            await self.server.stop()
        except LocalLLMError as error:
            self._complain(error)

    @work(exclusive=True, group="server")
    async def action_restart(self) -> None:
        if self.server.request is None:
            self.action_to_form()
            return
        try:
            await self.server.start(self.server.request)
        except LocalLLMError as error:
            self._complain(error)

    def action_to_form(self) -> None:
        self._switch("serve-form")

    # What is shown.

    def on_server_changed(self, message: ServerChanged) -> None:
        self._show()

    def on_models_changed(self, message: ModelsChanged) -> None:
        self.load_models()

    @property
    def _shows_form(self) -> bool:
        return not self.is_mounted or self.query_one(ContentSwitcher).current == "serve-form"

    @property
    def _chosen(self) -> dict[str, object] | None:
        name = self.query_one(ServedModels).chosen
        return next((model for model in self.server.view.models if model["id"] == name), None)

    def _show(self) -> None:
        view, log = self.server.view, self.server.log
        was_form = self._shows_form
        if view.phase == "stopped":
            self._switch("serve-form")
        elif view.phase != "ended" or not was_form:
            self._switch("serve-running")
        if view.phase == "ended" and not self.has_class("-ended"):
            self.query_one(Panes).show_pane("pane-log")
            if not self.is_current and view.error is not None:
                self._complain(view.error)
        self.set_class(view.phase == "ended", "-ended")
        self.query_one(ServerHead).show(view, has_key=bool(self.server.key))
        self.query_one(ServedModels).show(view.models)
        self.query_one(Activity).show(view.history.moments)
        self.query_one(ServerLog).show(log)
        self._show_snippets()
        self.refresh_bindings()

    @on(ServedModels.RowHighlighted)
    def _show_snippets(self) -> None:
        model = self._chosen
        if model is not None:
            view = self.server.view
            self.query_one(SnippetView).show(snippets(view.url, str(model["id"]), has_key=bool(self.server.key)))

    def _switch(self, to: str) -> None:
        switcher = self.query_one(ContentSwitcher)
        if switcher.current != to:
            switcher.current = to
            (self.query_one(ServedModels) if to == "serve-running" else self.query_one("#serve-models")).focus()

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.notify(f"{what} is copied.", markup=False)

    def _complain(self, error: LocalLLMError) -> None:
        self.notify(f"{error.message} {error.hint or ''}".rstrip(), severity="error", markup=False)


def _stored_models() -> list[Model]:
    from localllm.store.inventory import Inventory

    inventory = Inventory()
    return [(inventory.ref(model), model.names[0]) for model in inventory.models]
