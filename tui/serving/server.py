"""The one server of this app: started by it, or attached to. It knows no widgets: it says that something changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from localllm import paths
from localllm.errors import LocalLLMError, ServerError
from tui.serving import record
from tui.serving.api import ServerAPI
from tui.serving.child import ServerChild
from tui.serving.logs import LogTail
from tui.serving.metrics import History, parse_counters
from tui.serving.record import ServerRecord
from tui.serving.request import ServeRequest

Phase = Literal["stopped", "starting", "running", "stopping", "ended"]
"""ended: it was not told to."""

POLL_S, POLL_UNSEEN_S = 1.0, 5.0
_STARTING_POLL_S = 0.2
_QUIT_S = 3.0
_N_LAST_WORDS = 5
_MISSES_UNTIL_LOST = 3
"""A server that was attached to and did not answer so often is taken for gone."""


@dataclass
class ServerView:
    """What is known of the server now."""

    phase: Phase = "stopped"
    url: str = ""
    is_own: bool = False
    """Whether it is our child, and ends with us."""
    can_stop: bool = False
    status: dict[str, Any] | None = None
    """As /v1/admin/status."""
    error: LocalLLMError | None = None
    """Why it ended, or could not be started."""
    history: History = field(default_factory=History)

    @property
    def models(self) -> list[dict[str, Any]]:
        return self.status["models"] if self.status else []

    @property
    def n_active(self) -> int:
        """Requests inside."""
        return int(self.status["requests"]["active"]) if self.status else 0


class Server:
    """Starts, watches and stops a server. All methods are called on the interface's thread.

    Args:
        changed: called when there is something new to see.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.changed = changed
        self.view = ServerView()
        self.request: ServeRequest | None = None
        """What was asked for last."""
        self.log: LogTail | None = None
        self.is_watched = False
        """Whether somebody looks: then it is asked more often."""
        self._api: ServerAPI | None = None
        self._child: ServerChild | None = None
        self._record: ServerRecord | None = None
        self._watch: asyncio.Task[None] | None = None
        self._misses = 0

    @property
    def is_up(self) -> bool:
        """Whether there is a server to look at."""
        return self.view.phase in ("starting", "running", "stopping")

    @property
    def key(self) -> str:
        """What clients must send; "": nothing."""
        return self._api.key if self._api else ""

    def busy(self) -> list[str]:
        """Return what would end with the app, a sentence for each thing."""
        if self._child is None or not self.is_up:
            return []
        n = self.view.n_active
        doing = "" if not n else " with 1 running request" if n == 1 else f" with {n} running requests"
        return [f"The server at {self.view.url} stops{doing}; with d on its screen it would go on."]

    async def start(self, request: ServeRequest) -> None:
        """Start a server; that it answers is seen later.

        Raises:
            LocalLLMError: it cannot work, as `ServeRequest.check` says, or there is one.
        """
        if self.is_up:
            raise ServerError("There is a server already.", hint="Stop it first.")
        await asyncio.to_thread(request.check)
        self.request = request
        log = paths.logs_dir() / f"serve-{request.port}.log"
        try:
            self._child = await asyncio.to_thread(ServerChild, request.command, request.environment, log)
        except OSError as error:
            raise ServerError(f"The server cannot be started: {error.strerror}.", hint="See the disk.") from error
        self._begin(ServerAPI(request.base_url, request.key), log, "starting", is_own=True, can_stop=True)

    async def attach(self, url: str, key: str) -> None:
        """Watch a server that runs.

        Raises:
            NeedsKey: it wants another key.
            ServerError: nothing answers there that we understand.
        """
        if self.is_up:
            raise ServerError("There is a server already.", hint="Stop it first, or leave it running.")
        api = ServerAPI(url, key)
        status = await asyncio.to_thread(api.status)
        found = await asyncio.to_thread(record.find)
        self._record = found if found is not None and found.url == url else None
        log = Path(self._record.log) if self._record else None
        self._begin(api, log, "running", is_own=False, can_stop=self._record is not None)
        self.view.status = status
        self.changed()

    async def attach_again(self, key: str) -> bool:
        """Attach to the server that was left running; whether there is one.

        Raises:
            NeedsKey, ServerError: as `attach`.
        """
        found = await asyncio.to_thread(record.find)
        if found is None:
            return False
        await self.attach(found.url, key)
        return True

    async def leave(self) -> None:
        """Let our child run on when the app ends, and write down where it is."""
        if self._child is None or self.view.phase != "running":
            raise ServerError("There is no server of ours to leave running.")
        child, url = self._child, self.view.url
        kept = await asyncio.to_thread(record.record_of, child.pid, url, child.log)
        if kept is None:
            return
        try:
            await asyncio.to_thread(record.keep, kept)
        except OSError as error:
            raise ServerError(f"Where the server is cannot be written down: {error.strerror}.") from error
        await asyncio.to_thread(child.leave)
        self._child, self._record = None, kept
        self.view.is_own = False
        self.changed()

    async def stop(self) -> None:
        """Let running answers end, and then the server; asked twice, it ends at once.

        Raises:
            ServerError: it was started by somebody else.
        """
        if not self.view.can_stop:
            raise ServerError("This server was started elsewhere.", hint="Stop it there.")
        is_second = self.view.phase == "stopping"
        self.view.phase = "stopping"
        if self._child is not None:
            await asyncio.to_thread(self._child.kill if is_second else self._child.ask_to_stop)
        elif self._record is not None:
            await asyncio.to_thread(self._record.stop)
            record.forget()
        self.changed()

    def look_away(self) -> None:
        """Forget a server that is not ours; it runs on."""
        if self._child is None:
            self._end(None)

    async def manage(self, verb: str, model: str) -> None:
        """Have the server load, unload, pin or unpin a model.

        Raises:
            ServerError: it refuses.
        """
        if self._api is not None:
            await asyncio.to_thread(self._api.manage, verb, model)
            await self.refresh()

    async def refresh(self) -> None:
        """Look at the server now."""
        api, log = self._api, self.log
        if api is None:
            return
        is_there, code = await asyncio.to_thread(self._alive)
        if log is not None:
            await asyncio.to_thread(log.read)
        if not is_there:
            self._ended(code)
            return
        try:
            status, text = await asyncio.to_thread(lambda: (api.status(), api.metrics()))
        except ServerError as error:
            self._missed(error)
        else:
            if self._api is api:
                self._misses = 0
                self.view.status = status
                self.view.history.add(parse_counters(text, time.monotonic()))
                if self.view.phase == "starting":
                    self.view.phase = "running"
        self.changed()

    async def close(self) -> None:
        """End our child, as the app does; a server that was left, or attached to, runs on."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(_end_child, child)

    def _begin(self, api: ServerAPI, log: Path | None, phase: Phase, *, is_own: bool, can_stop: bool) -> None:
        self._api, self._misses = api, 0
        self.log = None if log is None else LogTail(log)
        self.view = ServerView(phase, api.url, is_own, can_stop)
        self._watch = asyncio.create_task(self._keep_watching())
        self.changed()

    async def _keep_watching(self) -> None:
        while self.is_up:
            await self.refresh()
            is_quick = self.view.phase in ("starting", "stopping")
            await asyncio.sleep(_STARTING_POLL_S if is_quick else POLL_S if self.is_watched else POLL_UNSEEN_S)

    def _alive(self) -> tuple[bool, int | None]:
        """Whether the process is there, as far as it is known; and how it ended."""
        child, kept = self._child, self._record
        if child is not None:
            return child.exit_code is None, child.exit_code
        return kept is None or kept.is_running(), None

    def _missed(self, error: ServerError) -> None:
        """Bear with a server that does not answer: ours is asked whether it lives, others are not."""
        self._misses += 1
        is_other = self._child is None and self._record is None
        if is_other and self._misses >= _MISSES_UNTIL_LOST and self.view.phase == "running":
            self._end(ServerError(f"The server at {self.view.url} is gone.", hint=error.hint))

    def _ended(self, code: int | None) -> None:
        if self.view.phase == "stopping":
            self._end(None)
            return
        record.forget()
        words = self.log.last_words(_N_LAST_WORDS) if self.log else []
        how = "The server ended" if self.view.phase == "running" else "The server did not start"
        more = "" if code is None else f" (exit code {code})"
        hint = "\n".join(words) or None
        self._end(ServerError(f"{how}{more}.", hint=hint))

    def _end(self, error: LocalLLMError | None) -> None:
        self._child, self._record, self._api = None, None, None
        self.view.phase = "stopped" if error is None else "ended"
        self.view.error = error
        self.view.status = None
        self.changed()


def _end_child(child: ServerChild) -> None:
    child.ask_to_stop()
    if not child.wait(_QUIT_S):
        child.kill()
        child.wait(_QUIT_S)
