"""A model that an engine on another machine has, used like one that is loaded here."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Unpack

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.engine.events import StopCause, Timings, Usage
from localllm.errors import RequestError
from localllm.hub.refs import RemoteRef
from localllm.llm.chat_options import NAMES as CHAT_NAMES
from localllm.llm.events import ChatEvent, Done, EndReason, Progress, ReasoningDelta, TextDelta, ToolCallDelta, Waiting
from localllm.llm.model import LLM, Messages
from localllm.llm.options import GenerateOptions, parse_text_options
from localllm.llm.remote_options import fields_of
from localllm.remotes import (
    CallPiece,
    Delta,
    End,
    ReasoningPiece,
    RemoteClient,
    Silence,
    TextPiece,
    TokenCounts,
    remote_of,
)
from localllm.remotes.client import Answer
from localllm.runtime.remote import RemoteBackend

_REASONS: dict[str, tuple[EndReason, StopCause]] = {
    "length": ("length", "max_tokens"),
    "tool_calls": ("tool_calls", ""),
    "function_call": ("tool_calls", ""),
    "abort": ("cancelled", ""),
}
"""A server's finish reason in our words; all others are "stop"."""

Ask = Callable[[], Answer]


def open_remote(ref: RemoteRef, defaults: GenerateOptions | None = None) -> RemoteLLM:
    """Return the model that "@lab" or "@lab/model" means, after a look whether it is there.

    Raises:
        ModelNotFound: there is no such remote, or it does not have the model.
        ServerError: it does not answer, or refuses.
    """
    return RemoteLLM(RemoteClient(remote_of(ref)), defaults)


class RemoteLLM(LLM):
    """A model of a remote. Prompts and answers are texts; tokens are the server's, and only counted.

    Options that are not given are the server's own, and those that its kind does not take are refused by name.
    Where `n` is above 1, the first Done has the counts of all.
    """

    def __init__(self, client: RemoteClient, defaults: GenerateOptions | None = None) -> None:
        super().__init__(RemoteBackend(client), defaults)
        self._client = client

    @property
    def client(self) -> RemoteClient:
        """What asks the server."""
        return self._client

    def chat(self, messages: Messages, **options: Unpack[GenerateOptions]) -> Generator[ChatEvent, None, None]:
        """Answer a conversation, as `LLM.chat`; there is no Progress, and Waiting where the server is silent.

        Raises:
            RequestError: here, for bad options; from the iterator, for what the server refuses.
            ServerError: from the iterator, where the server fails, falls silent or breaks off.
        """
        return _events(self._ask_chat(messages, options))

    def generate(self, prompt_text: str, **options: Unpack[GenerateOptions]) -> Generator[ChatEvent, None, None]:
        """Continue a text, as `LLM.generate`, where the server has /v1/completions."""
        return _events(self._ask_text(prompt_text, options))

    def achat(self, messages: Messages, **options: Unpack[GenerateOptions]) -> AsyncGenerator[ChatEvent, None]:
        """`chat` for asyncio; nothing in it blocks the loop. Cancelling the task hangs up."""
        return _aevents(self._ask_chat(messages, options))

    def agenerate(
        self, *prompts: str | Sequence[int], **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[ChatEvent, None]:
        """`generate` for asyncio, of one prompt."""
        if len(prompts) != 1:
            raise RequestError("A remote is asked for one text at a time.", hint="Ask for each on its own.")
        return _aevents(self._ask_text(prompts[0], options))

    def _ask_chat(self, messages: Messages, options: GenerateOptions) -> Ask:
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        if not isinstance(said, list | tuple) or not said or not all(isinstance(one, Mapping) for one in said):
            raise RequestError("messages must be a list.", hint='Pass [{"role": "user", "content": "Hello"}].')
        body = {"messages": list(said), **self._fields(options)}
        return lambda: self._client.chat(body)

    def _ask_text(self, prompt: str | Sequence[int], options: GenerateOptions) -> Ask:
        parse_text_options({name: value for name, value in options.items() if name in CHAT_NAMES})
        body = {"prompt": prompt if isinstance(prompt, str) else list(prompt), **self._fields(options)}
        return lambda: self._client.complete(body)

    def _fields(self, options: GenerateOptions) -> dict[str, Any]:
        return fields_of({**self._defaults, **options}, self._client.engine)


def _events(ask: Ask) -> Generator[ChatEvent, None, None]:
    with closing(ask()) as answer:
        yield from _events_of(answer)


def _events_of(answer: Answer) -> Generator[ChatEvent, None, None]:
    said = _Said(time.perf_counter())
    for delta in answer.deltas():
        yield from said.accept(delta)
    yield from said.ends()


async def _aevents(ask: Ask) -> AsyncGenerator[ChatEvent, None]:
    """Yield the events of an answer that is read on a thread; the first says only that it was asked for."""
    queue: asyncio.Queue[ChatEvent | Exception | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def deliver(item: ChatEvent | Exception | None) -> None:
        # The loop may have been closed under a request that was left behind.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def read(answer: Answer) -> None:
        try:
            for event in _events_of(answer):
                deliver(event)
            deliver(None)
        except Exception as error:  # It is raised where the events are awaited.
            deliver(error)

    yield Progress(0, 0, 0)
    answer = ask()
    try:
        threading.Thread(target=read, args=(answer,), name="remote-events", daemon=True).start()
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        answer.close()


class _Said:
    """What an answer has said so far, completion by completion."""

    def __init__(self, asked_s: float) -> None:
        self._asked_s = asked_s
        self._first_s: float | None = None
        self._last_s = asked_s
        self._n_pieces = 0
        self._text: dict[int, list[str]] = {}
        self._thought: dict[int, list[str]] = {}
        self._calls: dict[int, dict[int, tuple[str | None, str, list[str]]]] = {}
        self._reasons: dict[int, str] = {}
        self._counts: TokenCounts | None = None

    def accept(self, delta: Delta) -> Generator[ChatEvent, None, None]:
        match delta:
            case Silence():
                yield Waiting(delta.seconds)
            case TokenCounts():
                self._counts = delta
            case End():
                self._reasons.setdefault(delta.index, delta.reason)
            case TextPiece():
                self._hear()
                self._text.setdefault(delta.index, []).append(delta.text)
                yield TextDelta(delta.text, delta.index)
            case ReasoningPiece():
                self._hear()
                self._thought.setdefault(delta.index, []).append(delta.text)
                yield ReasoningDelta(delta.text, delta.index)
            case CallPiece():
                self._hear()
                yield self._call(delta)

    def ends(self) -> Generator[ChatEvent, None, None]:
        counts = self._counts or TokenCounts(0, self._n_pieces)
        for place, index in enumerate(sorted(self._reasons)):
            reason, cause = _REASONS.get(self._reasons[index], ("stop", ""))
            yield Done(
                text="".join(self._text.get(index, [])),
                finish_reason=reason,
                usage=_usage(counts if place == 0 else TokenCounts(0, 0)),
                timings=self._timings(counts),
                index=index,
                cause=cause,
                reasoning="".join(self._thought.get(index, [])),
                reasoning_tokens=counts.reasoning if place == 0 else 0,
                tool_calls=tuple(
                    ToolCall(FunctionCall(name, "".join(pieces)), call_id)
                    for call_id, name, pieces in self._calls.get(index, {}).values()
                ),
            )

    def _hear(self) -> None:
        self._last_s = time.perf_counter()
        self._first_s = self._first_s or self._last_s
        self._n_pieces += 1

    def _call(self, piece: CallPiece) -> ToolCallDelta:
        calls = self._calls.setdefault(piece.index, {})
        is_new = piece.call_index not in calls
        _, _, pieces = calls.setdefault(piece.call_index, (piece.id, piece.name or "", []))
        pieces.append(piece.arguments)
        call_id, name = (piece.id, piece.name) if is_new else (None, None)
        return ToolCallDelta(piece.call_index, call_id, name, piece.arguments, piece.index)

    def _timings(self, counts: TokenCounts) -> Timings:
        """Return what was seen from here, the network included."""
        if self._first_s is None:
            return Timings(queue_s=0.0, ttft_s=0.0, prefill_s=0.0, decode_s=0.0, prefill_tok_s=0.0, decode_tok_s=0.0)
        ttft_s, decode_s = self._first_s - self._asked_s, self._last_s - self._first_s
        return Timings(
            queue_s=0.0,
            ttft_s=ttft_s,
            prefill_s=ttft_s,
            decode_s=decode_s,
            prefill_tok_s=(counts.prompt - counts.cached) / ttft_s if ttft_s else 0.0,
            decode_tok_s=(counts.completion - 1) / decode_s if decode_s and counts.completion > 1 else 0.0,
        )


def _usage(counts: TokenCounts) -> Usage:
    return Usage(
        prompt_tokens=counts.prompt,
        completion_tokens=counts.completion,
        cached_tokens=min(counts.cached, counts.prompt),
    )
