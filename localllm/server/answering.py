"""One request for text, from its model's lease to the last byte: the same for every API."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

from fastapi import Request
from starlette.responses import Response

from localllm.errors import EngineClosed, WorkerCrashed
from localllm.llm.events import ChatEvent, Done
from localllm.llm.model import LLM
from localllm.server.errors import problem_of
from localllm.server.manager import ServedModel
from localllm.server.services import Services
from localllm.server.sse import ClientGone, PieceStream, unless_gone
from localllm.server.wire.base import Reply
from localllm.server.wire.frames import SSE_KEEP_ALIVE, SSE_TYPE, to_json

log = logging.getLogger("localllm.server")

CLIENT_GONE = 499
"""The status that logs show for a client that did not wait; nobody receives it."""

Events = AsyncGenerator[ChatEvent, None]


class Job(NamedTuple):
    """What a route makes of a request's body."""

    model: str | None
    open_events: Callable[[LLM], Events]
    """Submits the request; its first event says that it was accepted."""
    make_reply: Callable[[ServedModel], Reply]
    stream: bool
    media_type: str = SSE_TYPE
    keep_alive: bytes = SSE_KEEP_ALIVE


async def answer(request: Request, services: Services, job: Job) -> Response:
    """Answer a request for text, streamed or whole.

    Raises:
        LocalLLMError: it was not accepted; once a stream has begun, an error is an event in it.
    """
    route = request.url.path
    async with AsyncExitStack() as stack:
        stack.enter_context(services.admission.place())
        try:
            served, accepted, events = await unless_gone(request.receive, lambda: _begin(stack, services, job))
        except ClientGone:
            services.metrics.count(route, "", "cancelled")
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            services.metrics.count(route, "", problem_of(error).code or "error")
            raise
        watched = _watched(accepted, events, services, served, route)
        stack.push_async_callback(watched.aclose)
        reply = job.make_reply(served)
        if not job.stream:
            return await _whole(request, watched, reply)
        return PieceStream(
            _pieces(watched, reply),
            stack.pop_all(),
            media_type=job.media_type,
            keep_alive=job.keep_alive,
            keep_alive_s=services.settings.keep_alive_s,
        )
    raise AssertionError("unreachable")


async def _begin(stack: AsyncExitStack, services: Services, job: Job) -> tuple[ServedModel, ChatEvent, Events]:
    """Lease the model and have it accept the request; once more if its worker ended before it could.

    Returns:
        The model, the event that says that it accepted, and those that follow.
    """
    for is_last in (False, True):
        async with AsyncExitStack() as attempt:
            served = await attempt.enter_async_context(services.manager.lease(job.model))
            llm = served.loaded
            events = job.open_events(llm)
            attempt.push_async_callback(events.aclose)
            try:
                accepted = await anext(events)
            except (WorkerCrashed, EngineClosed):
                if is_last or llm.is_alive:
                    raise
                continue
            stack.push_async_exit(attempt.pop_all())
            return served, accepted, events
    raise AssertionError("unreachable")


async def _whole(request: Request, events: Events, reply: Reply) -> Response:
    async def collect() -> None:
        async for event in events:
            reply.accept(event)

    try:
        await unless_gone(request.receive, collect)
    except ClientGone:
        return Response(status_code=CLIENT_GONE)
    return Response(to_json(reply.body()), media_type="application/json")


async def _pieces(events: Events, reply: Reply) -> AsyncGenerator[bytes, None]:
    try:
        async for event in events:
            yield reply.accept(event)
    except Exception as error:
        problem = problem_of(error)
        if problem.code == "internal_error":
            log.exception("a stream failed")
        yield reply.fail(problem)
        return
    yield reply.end()


async def _watched(accepted: ChatEvent, events: Events, services: Services, served: ServedModel, route: str) -> Events:
    """Pass events on, and count how the request ended."""
    outcome = "cancelled"
    try:
        yield accepted
        async for event in events:
            if isinstance(event, Done):
                if event.finish_reason == "cancelled":
                    # Not by the client: then nobody would read this.
                    raise EngineClosed(f"{served.name} was unloaded while it answered.", hint="Try again.")
                services.metrics.observe(served.name, event)
                outcome = event.finish_reason
            yield event
    except Exception as error:
        outcome = problem_of(error).code or "error"
        raise
    finally:
        services.metrics.count(route, served.name, outcome)
        await events.aclose()
