"""One server under examination: its clients, its model, and what it turned out to be able to do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from localllm.conformance.check import NotApplicable, Unmet, need, shown
from localllm.conformance.exchange import Answer, Json, Stream, Wire
from localllm.conformance.forcing import EMOJI, HELLO, PAINT, only
from localllm.errors import RequestError

CHAT = "/v1/chat/completions"
Messages = str | list[Any]

_CONTEXT_NAMES = ("context_length", "max_model_len", "loaded_context_length", "context_window", "max_context_length")
_RUNNING = re.compile(
    r"^(?:localllm_requests_running|llamacpp:requests_processing|vllm:num_requests_running)(?:\{[^}]*\})? ([\d.e+]+)",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds."""

    request_s: float = 60.0
    """For each piece of an answer."""
    check_s: float = 180.0
    """For a whole check."""
    cancel_s: float = 3.0
    """Until a server has noticed that a client hung up."""
    silence_s: float = 15.0
    """The longest silence in a stream before clients and proxies take it for dead."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Which server, and how it may be treated.

    Attributes:
        url: with or without /v1.
        model: None is the first that the server lists.
        embedding_model: None is one that the server lists as such, else `model`.
        key: None sends none.
        disrupt: provoke failures that end other clients' requests too.
    """

    url: str
    model: str | None = None
    embedding_model: str | None = None
    key: str | None = None
    disrupt: bool = False
    patience: Patience = field(default_factory=Patience)

    @property
    def root_url(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1").rstrip("/")


class Target:
    """A server, asked through the official clients or by hand.

    What is costly to find out is found out once, and then remembered.
    """

    def __init__(self, options: TargetOptions) -> None:
        self.options = options
        self.patience = options.patience
        self.wire = Wire(options.root_url, options.key, options.patience.request_s)
        # The clients' types would make every field of every answer a case distinction; checks want to see what came.
        self._clients: list[Any] = []
        self._shared: dict[str, Any] = {
            "api_key": options.key or "none",
            "timeout": options.patience.request_s,
            "max_retries": 0,
            "default_headers": {"connection": "close"},
        }
        self.model = options.model or ""
        self.thinks = False
        self._known: dict[str, Any] = {}

    async def close(self) -> None:
        await self.wire.close()
        for client in self._clients:
            await client.close()

    @cached_property
    def openai(self) -> Any:
        """The official client of OpenAI's APIs."""
        self._clients.append(AsyncOpenAI(base_url=f"{self.options.root_url}/v1", **self._shared))
        return self._clients[-1]

    @cached_property
    def anthropic(self) -> Any:
        """The official client of Anthropic's."""
        self._clients.append(AsyncAnthropic(base_url=self.options.root_url, **self._shared))
        return self._clients[-1]

    async def prepare(self) -> None:
        """Find the model, have it loaded, and see whether it thinks.

        Raises:
            RequestError: nobody answers at this address, or no model is listed and none was named.
        """
        try:
            listed = await self.wire.get("/v1/models")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestError(
                f"No server answers at {self.options.root_url} ({type(error).__name__}).",
                hint="Give the address as http://127.0.0.1:8080.",
            ) from error
        self.model = self.model or _first_chat_model(_cards(listed))
        if not self.model:
            raise RequestError(
                f"{self.options.root_url}/v1/models lists no model (HTTP {listed.status}).",
                hint="Name one with --model, and a key with --key-env if the server needs one.",
            )
        try:
            self.thinks = await self._seems_to_think()
        except (Unmet, TimeoutError, httpx.HTTPError):
            # The checks will say what is wrong.
            self.thinks = False

    def body(self, messages: Messages, **fields: Any) -> Json:
        """Return the body of a chat request, greedy and without thinking unless `fields` say otherwise."""
        quiet: Json = {"chat_template_kwargs": {"enable_thinking": False}} if self.thinks else {}
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return {"model": self.model, "messages": conversation, "temperature": 0, "max_tokens": 16, **quiet, **fields}

    def arguments(self, messages: Messages, **fields: Any) -> Json:
        """Return `body` as the official client's arguments, which know nothing of templates."""
        body = self.body(messages, **fields)
        extra = {name: body.pop(name) for name in ("chat_template_kwargs",) if name in body}
        return {**body, "extra_body": extra or None}

    async def post_chat(self, messages: Messages, **fields: Any) -> Answer:
        """Return the answer to a chat request, whatever its status."""
        return await self.wire.post(CHAT, self.body(messages, **fields))

    async def chat(self, messages: Messages, **fields: Any) -> Json:
        """Return the JSON of a chat completion; anything but HTTP 200 fails the check."""
        return (await self.post_chat(messages, **fields)).ok()

    async def text(self, messages: Messages, **fields: Any) -> str:
        """Return the text of a chat completion."""
        content = (await self.chat(messages, **fields))["choices"][0]["message"]["content"]
        return str(content or "")

    async def ask(self, messages: Messages, **fields: Any) -> Any:
        """Return a chat completion through the official client."""
        return await self.openai.chat.completions.create(**self.arguments(messages, **fields))

    async def stream(self, messages: Messages, **fields: Any) -> Stream:
        """Return a streamed chat completion; anything but HTTP 200 fails the check."""
        stream = await self.wire.stream(CHAT, self.body(messages, **{"stream": True, **fields}))
        if stream.status != 200:
            raise Unmet("HTTP 200", f"HTTP {stream.status}: {stream.text}")
        return stream

    async def n_prompt_tokens(self, messages: Messages, **fields: Any) -> int:
        """Return how many tokens the server says a conversation has."""
        return int((await self.chat(messages, **{"max_tokens": 1, **fields}))["usage"]["prompt_tokens"])

    async def card(self, *, anew: bool = False) -> Json:
        """Return how /v1/models describes the model."""
        if anew:
            self._known.pop("card", None)
        return dict(await self.once("card", self._find_card))

    async def n_ctx(self) -> int:
        """Return the published context, in tokens; without one, the check does not apply."""
        return need(published_context(await self.card()), "/v1/models does not say how long the context is")

    async def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text; without /tokenize, the check does not apply."""
        answer = await self.wire.post("/tokenize", {"content": text, "model": self.model})
        if answer.status != 200:
            raise NotApplicable(f"token ids are needed, and /tokenize answers HTTP {answer.status}")
        return [int(token) for token in answer.json["tokens"]]

    async def need_schemas(self) -> None:
        """Skip the check where answers cannot be forced by a schema."""
        if not await self.once("schemas", self._obeys_schemas):
            raise NotApplicable("the server does not hold answers to a JSON schema (see point 5)")

    async def need_tools(self) -> None:
        """Skip the check where tool calls cannot be forced."""
        if reason := await self.once("tools", self._why_no_tools):
            raise NotApplicable(reason)

    async def need_path(self, path: str, body: Any) -> None:
        """Skip the check where the server has nothing at `path`."""
        answer = await self.once(path, lambda: self.wire.post(path, body))
        if answer.status in (404, 405, 501):
            raise NotApplicable(f"the server has no {path} (HTTP {answer.status})")

    async def n_running(self) -> int | None:
        """Return how many requests the server says it is computing; None where it does not tell."""
        metrics = await self.wire.get("/metrics")
        found = _RUNNING.findall(metrics.text) if metrics.status == 200 else []
        if found:
            return int(sum(float(value) for value in found))
        slots = await self.wire.get("/slots")
        return slots.text.count('"is_processing":true') if slots.status == 200 else None

    async def once(self, name: str, find: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self._known:
            self._known[name] = await find()
        return self._known[name]

    async def _find_card(self) -> Json:
        cards = _cards(await self.wire.get("/v1/models"))
        for card in cards:
            if self.model == card.get("id") or self.model in (card.get("aliases") or []):
                return card
        return cards[0] if cards else {}

    async def _obeys_schemas(self) -> bool:
        answer = await self.post_chat(HELLO, max_tokens=120, **only(EMOJI))
        return answer.status == 200 and EMOJI in str(answer.json["choices"][0]["message"].get("content"))

    async def _why_no_tools(self) -> str:
        answer = await self.post_chat(HELLO, max_tokens=200, tools=[PAINT], tool_choice="required")
        if answer.status != 200:
            return f"no tools here: HTTP {answer.status}: {shown(answer.error.get('message', answer.text))}"
        called = answer.json["choices"][0]["message"].get("tool_calls")
        return "" if called else "no tool is called where one must be (see point 3)"

    async def _seems_to_think(self) -> bool:
        async with asyncio.timeout(self.patience.check_s):
            message = (await self.chat(HELLO, max_tokens=32))["choices"][0]["message"]
        thought = message.get("reasoning_content") or message.get("reasoning")
        return bool(thought) or "<think>" in str(message.get("content"))


def published_context(card: Json) -> int | None:
    """Return the context that a model's card names, in tokens."""
    meta = card.get("meta") if isinstance(card.get("meta"), dict) else {}
    values = [card.get(name) for name in _CONTEXT_NAMES] + [(meta or {}).get("n_ctx")]
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _cards(answer: Answer) -> list[Json]:
    try:
        data = answer.json.get("data")
    except Unmet:
        return []
    return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []


def _first_chat_model(cards: list[Json]) -> str:
    chats = [card for card in cards if "chat" in (card.get("capabilities") or ["chat"])]
    return str((chats or cards or [{}])[0].get("id") or "")
