"""The scripted model behind HTTP, on a thread."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.conformance.fake import anthropic_shapes, openai_shapes, responses_shapes
from tests.conformance.fake.model import MODEL, N_CTX, Answer, ApiError, Json, ScriptedModel
from tests.conformance.fake.words import pieces

KEY = "sk-the-right-one"
_MAX_BODY_BYTES = 1 << 20
_TOKEN_S = 0.005
_FREE_TOKENS = 200
_PREFILL_S = 0.001
_KEEP_ALIVE_S = 0.05
_N_DIMENSIONS = 16


def _same(path: str, value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the server does wrong; nothing, by default.

    Attributes:
        request: changes what it understands of a request.
        whole: changes a whole answer.
        chunks: changes the events of a stream, [DONE] not among them.
        error: changes status and body of an error.
        raw: changes the bytes of a stream.
        headers: changes the headers of any answer.
        flags: what it does not do: see `Fake`.
    """

    request: Callable[[str, Json], Json] = _same
    whole: Callable[[str, Json], Json] = _same
    chunks: Callable[[str, list[Json]], list[Json]] = _same
    error: Callable[[str, tuple[int, Any]], tuple[int, Any]] = _same
    raw: Callable[[str, bytes], bytes] = _same
    headers: Callable[[str, dict[str, str]], dict[str, str]] = _same
    flags: frozenset[str] = frozenset()


@dataclass
class _Reply:
    """What a handler found: the whole answer, the events of a stream, and what both took."""

    whole: Json
    events: list[Json] = field(default_factory=list)
    answer: Answer | None = None
    named: bool = False


class Fake:
    """The server. `reset` makes it a new one, with another fault; what it was computing is forgotten."""

    def __init__(self) -> None:
        self._age = 0
        self.reset()
        self.n_requests = 0
        self._responses: dict[str, tuple[Json, list[Json]]] = {}
        methods = ["GET", "POST", "DELETE", "OPTIONS"]
        self.app = Starlette(routes=[Route("/{path:path}", self._handle, methods=methods)])

    def reset(self, fault: Fault | None = None, *, thinks: bool = False) -> None:
        self.fault = fault or Fault()
        self.model = ScriptedModel(thinks=thinks)
        self.unloaded = asyncio.Event()
        self.n_running = 0
        self._age += 1

    def has(self, flag: str) -> bool:
        return flag in self.fault.flags

    async def _handle(self, request: Request) -> Response:
        path = request.url.path
        self.n_requests += 1
        if self.has("hangs"):
            await asyncio.sleep(60)
        try:
            response = await self._respond(request, path)
        except ApiError as error:
            response = self._error(path, error)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            response = self._error(path, ApiError(500, f"{type(error).__name__}: {error}", "internal_error"))
        for name, value in self.fault.headers(path, {}).items():
            response.headers[name] = value
        return response

    async def _respond(self, request: Request, path: str) -> Response:
        self._check_gate(request)
        if request.method == "OPTIONS":
            return Response(status_code=403)
        if request.method != "POST":
            return self._get(request.method, path)
        try:
            body = json.loads(await request.body())
        except ValueError:
            raise ApiError(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise ApiError(400, "The body is no object.")
        if path == "/v1/admin/models/unload":
            self.unloaded.set()
            return JSONResponse({})
        reply = self._post(path, self.fault.request(path, body))
        if body.get("stream") and reply.events:
            return self._stream(path, reply)
        await self._compute(request, reply.answer)
        return JSONResponse(self.fault.whole(path, reply.whole))

    def _check_gate(self, request: Request) -> None:
        host = urlsplit(f"http://{request.headers.get('host', '')}").hostname
        known = ("127.0.0.1",) if self.has("no_names") else ("localhost", "127.0.0.1")
        if host not in known and not self.has("any_host"):
            raise ApiError(403, "Not that name.")
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key")
        if token != KEY and not self.has("any_key") and request.method != "OPTIONS":
            raise ApiError(401, f"Wrong key {token}." if self.has("repeats_keys") else "Wrong key.", "invalid_api_key")
        if int(request.headers.get("content-length", 0)) > _MAX_BODY_BYTES and not self.has("any_size"):
            raise ApiError(413, "The body is too large.")

    def _get(self, method: str, path: str) -> Response:
        card = {"id": MODEL, "object": "model", "created": 1, "owned_by": "tests", "context_length": N_CTX}
        card["capabilities"] = ["chat", "embedding"]
        if path == "/v1/models":
            return JSONResponse(self.fault.whole(path, {"object": "list", "data": [card]}))
        if path.startswith("/v1/models/"):
            if not path.endswith(f"/{MODEL}"):
                raise ApiError(404, "There is no such model.", "model_not_found")
            return JSONResponse(self.fault.whole("/v1/models/NAME", card))
        if path.startswith("/v1/responses/"):
            return self._kept_response(method, path.rpartition("/")[2])
        return self._page(path)

    def _page(self, path: str) -> Response:
        match path:
            case "/health":
                return JSONResponse(*self.fault.error(path, (200, {"status": "ok"}))[::-1])
            case "/metrics":
                text = f"localllm_requests_running {self.n_running}\n"
                return PlainTextResponse(self.fault.whole(path, {"text": text})["text"])
            case "/docs":
                return HTMLResponse(self.fault.whole(path, {"text": "<html></html>"})["text"])
            case "/openapi.json":
                return JSONResponse(self.fault.whole(path, {"paths": {"/v1/chat/completions": {}}}))
            case "/v1/chat/completions":
                raise ApiError(405, "POST here.", "method_not_allowed")
        raise ApiError(404, "There is nothing here.", "not_found")

    def _kept_response(self, method: str, name: str) -> Response:
        if name not in self._responses:
            raise ApiError(404, "There is no such response.", "not_found")
        whole, _ = self._responses[name]
        if method == "DELETE" and not self.has("never_deletes"):
            del self._responses[name]
        return JSONResponse(whole)

    def _post(self, path: str, body: Json) -> _Reply:
        handlers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/embeddings": self._embeddings,
            "/v1/messages": self._messages,
            "/v1/messages/count_tokens": self._count_tokens,
            "/v1/responses": self._response,
            "/tokenize": lambda body: _Reply({"tokens": self.model.vocabulary.ids(body["content"])}),
            "/detokenize": self._detokenize,
        }
        if path not in handlers or self.has(f"no {path}"):
            raise ApiError(404, "There is nothing here.", "not_found")
        return handlers[path](body)

    def _answer(self, body: Json) -> Answer:
        self.unloaded.clear()
        answer = self.model.answer(body)
        if self.has("never_cached"):
            answer.n_cached = 0
        if self.has("always_cached"):
            answer.n_cached = answer.n_prompt - 1
        return answer

    def _chat(self, body: Json) -> _Reply:
        answer = self._answer(body)
        return _Reply(openai_shapes.chat_body(answer, body), openai_shapes.chat_chunks(answer, body), answer)

    def _completions(self, body: Json) -> _Reply:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        answers = [
            self.model.complete(pieces(prompt), {**body, "chat_template_kwargs": {"enable_thinking": False}})
            for prompt in prompts
        ]
        echoes = [prompt if body.get("echo") else "" for prompt in prompts]
        whole = openai_shapes.completion_body(list(zip(echoes, answers, strict=True)), body)
        return _Reply(whole, openai_shapes.completion_chunks(answers[0]), answers[0])

    def _messages(self, body: Json) -> _Reply:
        chat = anthropic_shapes.to_chat(body)
        answer = self._answer(chat)
        stop = self._stop_of(chat, answer) if chat.get("stop") else None
        whole = anthropic_shapes.message_body(answer, body, stop)
        return _Reply(whole, anthropic_shapes.message_events(answer, body, stop), answer, named=True)

    def _stop_of(self, chat: Json, answer: Answer) -> str | None:
        """Return the stop string that ended the answer."""
        full = "".join(self.model.answer({**chat, "stop": None}).choices[0].texts)
        rest = full[len("".join(answer.choices[0].texts)) :]
        return next((stop for stop in chat["stop"] if rest.startswith(stop)), None)

    def _count_tokens(self, body: Json) -> _Reply:
        return _Reply({"input_tokens": len(self.model.prompt(anthropic_shapes.to_chat(body)))})

    def _response(self, body: Json) -> _Reply:
        before = body.get("previous_response_id")
        if before and before not in self._responses and not self.has("any_previous"):
            raise ApiError(400, "There is no such response.", "previous_response_not_found")
        history = self._responses[before][1] if before in self._responses else []
        chat = responses_shapes.to_chat(body, history)
        answer = self._answer(chat)
        whole = responses_shapes.response_body(answer, body)
        said = {"role": "assistant", "content": "".join(answer.choices[0].texts)}
        if body.get("store") is not False:
            self._responses[whole["id"]] = (whole, [*chat["messages"], said])
        return _Reply(whole, responses_shapes.response_events(answer, whole), answer, named=True)

    def _embeddings(self, body: Json) -> _Reply:
        value = body["input"]
        if not isinstance(value, str | list) or not value:
            raise ApiError(400, "There is nothing to embed.", param="input")
        inputs = value if isinstance(value, list) and not isinstance(value[0], int) else [value]
        data = []
        for index, item in enumerate(inputs):
            vector: Any = _vector(item, body.get("dimensions") or _N_DIMENSIONS)
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        n_tokens = sum(len(item) for item in inputs)
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return _Reply({"object": "list", "data": data, "model": MODEL, "usage": usage})

    def _detokenize(self, body: Json) -> _Reply:
        data = b"".join(self.model.vocabulary.piece(token) for token in body["tokens"])
        return _Reply({"content": data.decode()})

    async def _compute(self, request: Request, answer: Answer | None) -> None:
        """Take the time that a whole answer takes, unless the client hangs up."""
        if answer is None:
            return
        while self.has("one_at_a_time") and self.n_running:
            await asyncio.sleep(0.01)
        n_steps = answer.choices[0].n_tokens if answer.is_endless else 0
        age = self._age
        self.n_running += 1
        try:
            await asyncio.sleep(_prefill_s(answer))
            for step in range(n_steps):
                await asyncio.sleep(_TOKEN_S)
                if age != self._age:
                    return
                if step % 20 == 0 and not self.has("never_cancels") and await request.is_disconnected():
                    return
        finally:
            self.n_running -= age == self._age

    def _stream(self, path: str, reply: _Reply) -> Response:
        events = self.fault.chunks(path, reply.events)
        lines = [_sse(event, reply.named) for event in events]
        if not reply.named:
            lines.append(b"data: [DONE]\n\n")
        assert reply.answer is not None
        parts = self._timed(path, lines, reply.answer)
        if self.has("never_cancels"):
            parts = self._stubborn(parts)
        headers = {"cache-control": "no-cache"}
        return StreamingResponse(parts, media_type="text/event-stream", headers=headers)

    async def _timed(self, path: str, lines: list[bytes], answer: Answer) -> AsyncIterator[bytes]:
        age = self._age
        self.n_running += 1
        try:
            until = time.monotonic() + _prefill_s(answer)
            while time.monotonic() < until:
                await asyncio.sleep(_KEEP_ALIVE_S)
                if not self.has("no_keep_alive"):
                    yield b": wait\n\n"
            if not answer.is_endless:
                yield self.fault.raw(path, b"".join(lines))
                return
            for line in lines:
                if age != self._age:
                    return
                if self.unloaded.is_set():
                    if not self.has("ends_without_error"):
                        yield _sse({"error": {"message": "The model is gone.", "type": "server_error"}}, named=False)
                    return
                await asyncio.sleep(_TOKEN_S)
                yield line
        finally:
            self.n_running -= age == self._age

    async def _stubborn(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Go on computing when nobody reads any more."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def fill() -> None:
            async for part in parts:
                await queue.put(part)
            await queue.put(None)

        self._task = asyncio.create_task(fill())
        while (part := await queue.get()) is not None:
            yield part

    def _error(self, path: str, error: ApiError) -> Response:
        kind = "authentication_error" if error.status == 401 else "invalid_request_error"
        body: Json = {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
        if path.startswith("/v1/messages"):
            kind = "not_found_error" if error.status == 404 else kind
            body = {"type": "error", "error": {"type": kind, "message": error.message}}
        status, changed = self.fault.error(path, (error.status, body))
        headers = {"connection": "close"} if status == 413 else None
        if isinstance(changed, str):
            return PlainTextResponse(changed, status, headers)
        return JSONResponse(changed, status, headers)


def _sse(event: Json, named: bool) -> bytes:
    name = f"event: {event['type']}\n".encode() if named else b""
    return name + b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def _prefill_s(answer: Answer) -> float:
    n_new = answer.n_prompt - answer.n_cached
    return n_new * _PREFILL_S if n_new > _FREE_TOKENS else 0.0


def _vector(item: Any, n_dimensions: int) -> list[float]:
    rng = random.Random(repr(item))
    values = [rng.gauss(0, 1) for _ in range(n_dimensions)]
    length = math.hypot(*values)
    return [value / length for value in values]


class Running:
    """A server that listens on a free port of this machine until it is left."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self.url

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(5)
