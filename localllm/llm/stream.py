"""From the engine's tokens to text: the state of one call, shared by the sync and the async way of reading it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from localllm import errors
from localllm.chat.detokenizer import Utf8Stream
from localllm.chat.stops import StopFilter
from localllm.engine.events import Event, FinishEvent, PrefillProgress, TokenEvent, TokenLogprob
from localllm.engine.request import GenerationRequest
from localllm.llm.events import ChatEvent, Done, Progress, TextDelta, TokenChoice
from localllm.runtime.backend import Backend, TextControls

Deliver = Callable[[int, Event], None]
"""Takes the index of a completion and its next event, on a thread of the backend's."""


class Completion:
    """One of the completions of a call: its bytes so far, as text that is safe to show."""

    def __init__(self, index: int, stop: Sequence[str]) -> None:
        self._index = index
        self._decoder = Utf8Stream()
        self._filter = StopFilter(stop)
        self._text: list[str] = []
        self._choices: list[TokenChoice] = []

    def accept(self, event: Event) -> list[ChatEvent]:
        """Return what `event` adds for the caller; nothing where its text must wait for more.

        Raises:
            LocalLLMError: the request failed; the class says how.
        """
        match event:
            case TokenEvent():
                return self._token(event)
            case PrefillProgress():
                return [Progress(event.n_done, event.n_total, event.n_cached, self._index)]
            case FinishEvent():
                return self._finish(event)

    def _token(self, event: TokenEvent) -> list[ChatEvent]:
        if event.logprob is not None and event.piece:
            chosen = TokenLogprob(event.token, event.piece, event.logprob)
            self._choices.append(TokenChoice(chosen, event.top_logprobs))
        return self._delta(self._filter.feed(self._decoder.feed(event.piece)))

    def _finish(self, event: FinishEvent) -> list[ChatEvent]:
        if event.reason == "error":
            raise event.error.to_error() if event.error else errors.EngineError("The engine gave no reason.")
        rest = self._filter.feed(self._decoder.flush()) + self._filter.flush()
        events = self._delta(rest)
        done = Done(
            text="".join(self._text),
            finish_reason=event.reason,
            usage=event.usage,
            timings=event.timings,
            index=self._index,
            cause=event.cause,
            stop_text=self._filter.matched if event.cause == "stop_string" else None,
        )
        return [*events, done]

    def _delta(self, text: str) -> list[ChatEvent]:
        if not text:
            return []
        self._text.append(text)
        choices, self._choices = tuple(self._choices), []
        return [TextDelta(text, self._index, choices)]


class Generation:
    """The requests behind one call. `start` and `cancel` may meet on different threads; the rest is one thread's."""

    def __init__(
        self, backend: Backend, requests: Sequence[GenerationRequest], controls: TextControls, deliver: Deliver
    ) -> None:
        self._backend = backend
        self._requests = requests
        self._controls = controls
        self._deliver = deliver
        self._completions = [Completion(index, controls.stop) for index in range(len(requests))]
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}
        self._ended: set[int] = set()
        self._cancelled = False

    @property
    def is_finished(self) -> bool:
        """Whether every completion has ended."""
        return len(self._ended) == len(self._requests)

    def start(self) -> None:
        """Submit the requests.

        Raises:
            LocalLLMError: the backend refused one; those before it still run, so call `cancel`.
        """
        for index, request in enumerate(self._requests):
            request_id = self._backend.submit(request, self._controls, partial(self._deliver, index))
            with self._lock:
                self._running[index] = request_id
                too_late = self._cancelled
            if too_late:
                self._backend.cancel(request_id)
                return

    def accept(self, index: int, event: Event) -> list[ChatEvent]:
        """Return what one delivered event adds for the caller.

        Raises:
            LocalLLMError: the request failed.
        """
        if isinstance(event, FinishEvent):
            self._ended.add(index)
        return self._completions[index].accept(event)

    def cancel(self) -> None:
        """Cancel what still runs, and what a `start` on another thread is about to submit."""
        with self._lock:
            self._cancelled = True
            running = [request_id for index, request_id in self._running.items() if index not in self._ended]
        for request_id in running:
            self._backend.cancel(request_id)
