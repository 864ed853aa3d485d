"""From the engine's tokens to text: the state of one call, shared by the sync and the async way of reading it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from localllm import errors
from localllm.chat.detokenizer import Utf8Stream
from localllm.chat.formats.events import CallDelta, CallEnd, Content, FormatEvent, Reasoning
from localllm.chat.formats.parser import StreamParser
from localllm.chat.messages import FunctionCall, ToolCall
from localllm.chat.stops import StopFilter
from localllm.engine.events import Event, FinishEvent, PrefillProgress, TokenEvent, TokenLogprob
from localllm.llm.events import ChatEvent, Done, Progress, ReasoningDelta, TextDelta, TokenChoice, ToolCallDelta
from localllm.llm.options import GenerationSpec
from localllm.llm.prompt import Prompt
from localllm.runtime.backend import Backend

Deliver = Callable[[int, Event], None]
"""Takes the index of a completion and its next event, on a thread of the backend's."""


class _Call:
    """A call of a tool, as far as it is known."""

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []
        self.is_complete = False

    def value(self) -> ToolCall:
        return ToolCall(FunctionCall(self.name, "".join(self.arguments)), self.id)


class Completion:
    """One of the completions of a call: its bytes so far, as typed pieces of text that are safe to show."""

    def __init__(self, index: int, stop: Sequence[str], parser: StreamParser, new_call_id: Callable[[], str]) -> None:
        self._index = index
        self._decoder = Utf8Stream()
        self._filter = StopFilter(stop)
        self._parser = parser
        self._new_call_id = new_call_id
        self._n_chars = 0
        self._n_reasoning_tokens = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._choices: deque[tuple[int, int, TokenChoice]] = deque()

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
        text = self._decoder.feed(event.piece)
        start, self._n_chars = self._n_chars, self._n_chars + len(text)
        if event.logprob is not None and event.piece:
            chosen = TokenLogprob(event.token, event.piece, event.logprob)
            # A token that completes no character belongs to the one that it begins.
            self._choices.append((start, max(self._n_chars, start + 1), TokenChoice(chosen, event.top_logprobs)))
        events = self._deltas(self._parser.feed(self._filter.feed(text)))
        self._n_reasoning_tokens += self._parser.is_thinking
        return events

    def _finish(self, event: FinishEvent) -> list[ChatEvent]:
        if event.reason == "error":
            raise event.error.to_error() if event.error else errors.EngineError("The engine gave no reason.")
        # What the decoder still holds is half a character, which nobody can show: it is left out.
        events = self._deltas([*self._parser.feed(self._filter.flush()), *self._parser.flush()])
        has_called = any(call.is_complete for call in self._calls)
        done = Done(
            text="".join(self._text),
            finish_reason="tool_calls" if event.reason == "stop" and has_called else event.reason,
            usage=event.usage,
            timings=event.timings,
            index=self._index,
            cause=event.cause,
            stop_text=self._filter.matched if event.cause == "stop_string" else None,
            reasoning="".join(self._reasoning),
            reasoning_tokens=self._n_reasoning_tokens,
            tool_calls=tuple(call.value() for call in self._calls),
        )
        return [*events, done]

    def _deltas(self, events: Sequence[FormatEvent]) -> list[ChatEvent]:
        return [delta for event in events if (delta := self._delta(event)) is not None]

    def _delta(self, event: FormatEvent) -> ChatEvent | None:
        match event:
            case Content():
                self._text.append(event.text)
                return TextDelta(event.text, self._index, self._choices_of(event.start, event.end))
            case Reasoning():
                self._reasoning.append(event.text)
                return ReasoningDelta(event.text, self._index, self._choices_of(event.start, event.end))
            case CallDelta():
                return self._call_delta(event)
            case CallEnd():
                self._calls[event.call_index].is_complete = True
                return None

    def _call_delta(self, event: CallDelta) -> ToolCallDelta:
        call_id = None
        if event.name is not None:
            call_id = event.id or self._new_call_id()
            self._calls.append(_Call(call_id, event.name))
        self._calls[event.call_index].arguments.append(event.arguments)
        choices = self._choices_of(event.start, event.end)
        return ToolCallDelta(event.call_index, call_id, event.name, event.arguments, self._index, choices)

    def _choices_of(self, start: int, end: int) -> tuple[TokenChoice, ...]:
        """Return the tokens of the characters from `start` to `end`, and forget those before: they were of markers."""
        chosen = []
        while self._choices and self._choices[0][0] < end:
            _, token_end, choice = self._choices.popleft()
            if token_end > start:
                chosen.append(choice)
        return tuple(chosen)


class Generation:
    """The requests behind one call. `start` and `cancel` may meet on different threads; the rest is one thread's."""

    def __init__(self, backend: Backend, prompts: Sequence[Prompt], spec: GenerationSpec, deliver: Deliver) -> None:
        self._backend = backend
        self._requests = [
            (request, prompt.controls)
            for prompt in prompts
            for request in spec.requests(prompt.tokens, prompt.visible_tokens, prompt.n_head)
        ]
        self._deliver = deliver
        self._completions = [
            Completion(p * spec.n + i, prompt.controls.stop, prompt.parser(), prompt.new_call_id)
            for p, prompt in enumerate(prompts)
            for i in range(spec.n)
        ]
        self._lock = threading.Lock()
        self._running: dict[int, int] = {}
        self._ended: set[int] = set()
        self._cancelled = False

    @property
    def prompt_lengths(self) -> list[int]:
        """Tokens in the prompt of each completion."""
        return [len(request.prompt) for request, _ in self._requests]

    @property
    def is_finished(self) -> bool:
        """Whether every completion has ended."""
        return len(self._ended) == len(self._requests)

    def start(self) -> None:
        """Submit the requests.

        Raises:
            LocalLLMError: the backend refused one; those before it still run, so call `cancel`.
        """
        for index, (request, controls) in enumerate(self._requests):
            request_id = self._backend.submit(request, controls, partial(self._deliver, index))
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
