"""Asking one remote: which models it has, and what they answer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from difflib import get_close_matches
from functools import cached_property
from typing import Any
from urllib.parse import quote

from localllm.errors import AnswerBroken, LocalLLMError, ModelNotFound, ServerSilent
from localllm.gguf import printable
from localllm.remotes.deltas import (
    Delta,
    End,
    MalformedChunk,
    ReasoningPiece,
    Silence,
    TextPiece,
    deltas_of,
    parse_chunk,
)
from localllm.remotes.engines import Engine, ModelCard, cards_of
from localllm.remotes.refusals import asked_wrong, broken_off
from localllm.remotes.registry import Remote
from localllm.remotes.stream import AnswerStream
from localllm.remotes.wire import Patience, Wire

_FIRST_FACTOR = 10
"""A first byte may take so many times the silence that is allowed later: the prompt is read before it."""
_N_NAMED_MAX = 8
MODELS = "/v1/models"
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


class RemoteClient:
    """One remote, with the model that it was named with. May be used from several threads.

    Args:
        remote: where it is.
        note_s: silence after which a stream says so.

    Raises:
        RequestError: its key is in a variable that is not set.
    """

    def __init__(self, remote: Remote, note_s: float = Patience.note_s) -> None:
        self.remote = remote
        patience = Patience(first_s=remote.silence_s * _FIRST_FACTOR, silence_s=remote.silence_s, note_s=note_s)
        self.wire = Wire(remote.name, remote.root_url, remote.secret(), patience)

    def models(self) -> list[ModelCard]:
        """Return what the server lists.

        Raises:
            LocalLLMError: it does not answer, refuses, or is another kind of server.
        """
        cards = cards_of(self.wire.get(MODELS))
        if cards is None:
            raise self.wire.not_ours(f"lists no models at {MODELS}")
        return cards

    @cached_property
    def card(self) -> ModelCard:
        """The model that is asked.

        Raises:
            ModelNotFound: the server does not have it, or several, of which none was named.
            LocalLLMError: as `models`.
        """
        return self._named(self.remote.model) if self.remote.model else self._only()

    @property
    def engine(self) -> Engine:
        """What kind of server it is, as far as it tells."""
        return self.card.engine

    def version(self) -> str:
        """Return the server's version, or "" where it does not tell."""
        if self.engine.version_at is None:
            return ""
        path, key = self.engine.version_at
        try:
            answer = self.wire.get(path)
        except LocalLLMError:
            return ""
        return printable(str(answer.get(key) or "")) if isinstance(answer, dict) else ""

    def chat(self, body: Mapping[str, Any]) -> Answer:
        """Ask for a chat completion; `model` and what streaming needs are added to the body."""
        return Answer(self.wire, CHAT, self._streamed(body))

    def complete(self, body: Mapping[str, Any]) -> Answer:
        """Ask for a text's continuation, in the same way."""
        return Answer(self.wire, COMPLETIONS, self._streamed(body))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object that a request about the model is answered with, not streamed.

        Raises:
            LocalLLMError: as `models`.
        """
        answer = self.wire.post(path, {"model": self.card.id, **body}, self.wire.patience.first_s)
        if not isinstance(answer, dict):
            raise self.wire.not_ours(f"answers {path} with no object")
        if answer.get("error"):
            raise asked_wrong(self.remote.name, str(answer["error"]).encode())
        return answer

    def _streamed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self.card.id, **body, "stream": True, "stream_options": {"include_usage": True}}

    def _only(self) -> ModelCard:
        name = self.remote.name
        cards = self.models()
        whole = [card for card in cards if not card.is_adapter]
        if len(whole) == 1:
            return whole[0]
        if not cards:
            raise ModelNotFound(f"{name} lists no model.", hint=f"Name one: @{name}/MODEL")
        raise ModelNotFound(
            f"{name} has {len(cards)} models: {names_of(cards)}.",
            hint=f"Name one, such as @{name}/{printable(cards[0].id)}, or for good: localllm remote add --model.",
        )

    def _named(self, model: str) -> ModelCard:
        """Return a model by its name: some servers answer to names that they do not list."""
        cards = self.models()
        for card in cards:
            if model in card.names:
                return card
        found = self._unlisted(model)
        if found is None:
            raise self._no_such(model, cards)
        owner = found.owner or (cards[0].owner if cards else "")
        return ModelCard(model, found.names, owner, found.n_ctx, found.is_adapter)

    def _unlisted(self, model: str) -> ModelCard | None:
        try:
            answer = self.wire.get(f"{MODELS}/{quote(model)}")
        except LocalLLMError:
            return None
        cards = cards_of({"data": [answer]})
        return cards[0] if cards else None

    def _no_such(self, model: str, cards: list[ModelCard]) -> ModelNotFound:
        near = get_close_matches(model, [card.id for card in cards], n=1)
        guess = f" Did you mean @{self.remote.name}/{printable(near[0])}?" if near else ""
        return ModelNotFound(
            f"{self.remote.name} has no model {printable(model)!r}.{guess}",
            hint=f"It has {names_of(cards)}." if cards else "It lists no model.",
        )


class Answer:
    """A streamed answer. `close` may be called from any thread; it hangs up, and the server stops."""

    def __init__(self, wire: Wire, path: str, body: Mapping[str, Any]) -> None:
        self._wire = wire
        self._stream = AnswerStream(wire, path, body)
        self._n_chars = 0
        self._ended: set[int] = set()
        self._n = body.get("n") or 1

    def close(self) -> None:
        """Hang up; harmless after the end, and twice."""
        self._stream.close()

    def deltas(self) -> Generator[Delta, None, None]:
        """Yield what the server says, until it has said all.

        Raises:
            LocalLLMError: it failed, fell silent, or broke off; what came before was yielded.
        """
        with closing(self):
            try:
                for item in self._stream:
                    if item == "[DONE]":
                        break
                    yield from self._of(item)
            except AnswerBroken as error:
                if not self._is_whole:
                    raise self._broken(error.message) from error
            except ServerSilent as error:
                if self._n_chars:
                    raise ServerSilent(f"{error.message[:-1]}, {self._place}.", hint=error.hint) from error
                raise
            if not self._is_whole:
                raise self._broken(f"{self._wire.name} closed the stream without an end.")

    @property
    def _place(self) -> str:
        return f"after {self._n_chars} characters of its answer" if self._n_chars else "before its answer began"

    @property
    def _is_whole(self) -> bool:
        return len(self._ended) >= self._n

    def _of(self, item: str | Silence) -> Generator[Delta, None, None]:
        if isinstance(item, Silence):
            yield item
            return
        try:
            chunk = parse_chunk(item)
            if chunk.get("error"):
                raise self._failed(chunk["error"])
            found = deltas_of(chunk)
        except MalformedChunk as error:
            raise self._wire.not_ours(f"sends {printable(str(error), 120)}") from error
        for delta in found:
            if isinstance(delta, TextPiece | ReasoningPiece):
                self._n_chars += len(delta.text)
            elif isinstance(delta, End):
                self._ended.add(delta.index)
            yield delta

    def _failed(self, error: Any) -> LocalLLMError:
        code = error.get("code") if isinstance(error, dict) else None
        if not self._n_chars and isinstance(code, int) and 400 <= code < 500:
            return asked_wrong(self._wire.name, str(error.get("message") or error).encode())
        return broken_off(self._wire.name, error)

    def _broken(self, what: str) -> AnswerBroken:
        return AnswerBroken(
            f"{what.rstrip('.')}, {self._place}.",
            hint="It may have ended or crashed. What came before is kept; ask again when it runs.",
        )


def names_of(cards: list[ModelCard]) -> str:
    """Return the names of models for a message, of many the first ones."""
    shown = ", ".join(printable(card.id) for card in cards[:_N_NAMED_MAX])
    n_more = len(cards) - _N_NAMED_MAX
    return f"{shown} and {n_more} more" if n_more > 0 else shown
