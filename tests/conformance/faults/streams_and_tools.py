"""Points 1 to 3: streams and tool calls."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tests.conformance.fake.model import Json
from tests.conformance.fake.server import Fault
from tests.conformance.faults.making import (
    CHAT,
    Case,
    any_message,
    change_message,
    choices,
    each_delta,
    ignores,
    keeps_messages,
    on,
    refuses_if,
    says,
    streams,
    takes_for,
    understands,
)


def _each_call_delta(change: Callable[[Json], Any], first: int = 0) -> Fault:
    """Change the deltas of calls, from the given one on."""

    def apply(chunks: list[Json]) -> None:
        calls = [call for choice in choices(chunks) for call in choice["delta"].get("tool_calls", [])]
        for call in calls[first:]:
            change(call)

    return streams(apply)


def _with_reason(reason: str) -> Fault:
    """Every answer ends with this reason, streamed and whole."""

    def chunks(found: list[Json]) -> None:
        for choice in choices(found):
            if choice["finish_reason"]:
                choice["finish_reason"] = reason

    def whole(body: Json) -> None:
        for choice in body["choices"]:
            choice["finish_reason"] = reason

    return Fault(chunks=on(CHAT, chunks), whole=on(CHAT, whole))


def _tool_calls_even_if_cut() -> Fault:
    def chunks(found: list[Json]) -> None:
        if any(choice["delta"].get("tool_calls") for choice in choices(found)):
            choices(found)[-1]["finish_reason"] = "tool_calls"

    return Fault(chunks=on(CHAT, chunks))


def _finish_with_the_last_text(chunks: list[Json]) -> list[Json]:
    end = next(chunk for chunk in chunks if choices([chunk]) and choices([chunk])[0]["finish_reason"])
    before = chunks[chunks.index(end) - 1]
    before["choices"][0]["finish_reason"] = end["choices"][0]["finish_reason"]
    return [chunk for chunk in chunks if chunk is not end]


def _without_null_reasons(chunks: list[Json]) -> None:
    for choice in choices(chunks):
        if choice["finish_reason"] is None:
            del choice["finish_reason"]


def _all_text_at_once(chunks: list[Json]) -> list[Json]:
    texts = [chunk for chunk in chunks if choices([chunk]) and choices([chunk])[0]["delta"].get("content")]
    if texts:
        texts[0]["choices"][0]["delta"]["content"] = "".join(c["choices"][0]["delta"]["content"] for c in texts)
    return [chunk for chunk in chunks if not any(chunk is text for text in texts[1:])]


def _all_arguments_at_once(chunks: list[Json]) -> list[Json]:
    calls = [c for c in chunks if choices([c]) and choices([c])[0]["delta"].get("tool_calls")]
    functions = [c["choices"][0]["delta"]["tool_calls"][0]["function"] for c in calls]
    if functions:
        functions[0]["arguments"] = "".join(function["arguments"] for function in functions)
    return [chunk for chunk in chunks if not any(chunk is call for call in calls[1:])]


def _half_at_the_end() -> Fault:
    def chunks(found: list[Json]) -> None:
        texts = [choice["delta"] for choice in choices(found) if choice["delta"].get("content")]
        if texts and choices(found)[-1]["finish_reason"] == "length":
            texts[-1]["content"] += "\ufffd"

    return Fault(chunks=on(CHAT, chunks))


def _half_characters(chunks: list[Json]) -> None:
    for choice in choices(chunks):
        text = choice["delta"].get("content")
        if text and not text.isascii():
            choice["delta"]["content"] = "\ufffd\ufffd"


def _change_arguments(arguments: Any) -> Fault:
    def change(message: Json) -> None:
        for call in message.get("tool_calls") or []:
            call["function"]["arguments"] = arguments

    return change_message(change)


def _garbage(path: str, data: bytes) -> bytes:
    return b"data: {oops\n\n" + data if path == CHAT else data


def _without_done(path: str, data: bytes) -> bytes:
    return data.replace(b"data: [DONE]\n\n", b"")


CASES = [
    # 1
    Case(
        "role in every chunk",
        each_delta(lambda d: d.update(role="assistant")),
        ("stream_shape.role_in_first_chunk_only",),
    ),
    Case(
        "an id for each chunk",
        streams(lambda cs: [c.update(id=secrets.token_hex(4)) for c in cs] and None),
        ("stream_shape.one_id_and_created",),
    ),
    Case(
        "the same id always",
        says(lambda body: body.update(id="chatcmpl-0")),
        ("stream_shape.ids_differ_between_requests",),
    ),
    Case(
        "the reason beside the last text",
        streams(_finish_with_the_last_text),
        ("stream_shape.finish_reason_in_own_chunk",),
    ),
    Case(
        "no key for a null reason", streams(_without_null_reasons), ("stream_shape.finish_reason_is_null_until_then",)
    ),
    Case(
        "usage always",
        understands(lambda b: b.update(stream_options={"include_usage": True})),
        ("stream_shape.usage_only_if_asked",),
    ),
    Case(
        "usage never",
        ignores("stream_options"),
        ("stream_shape.usage_in_last_chunk", "token_limits.max_tokens_streamed", "usage.streamed_is_the_same"),
    ),
    Case("no [DONE]", Fault(raw=_without_done), ("stream_shape.done_comes_last",)),
    Case(
        "another content type",
        Fault(headers=lambda path, h: {"content-type": "text/plain"}),
        ("stream_shape.is_an_event_stream",),
    ),
    Case(
        "all text at once",
        streams(_all_text_at_once),
        ("stream_shape.comes_in_pieces", "tool_deltas.text_comes_in_pieces_beside_tools"),
    ),
    Case(
        "a delta is lost",
        streams(lambda chunks: [*chunks[:2], *chunks[3:]]),
        ("stream_shape.deltas_are_the_whole_answer",),
    ),
    Case(
        "the reason is always stop",
        _with_reason("stop"),
        (
            "stream_shape.length_when_cut",
            "stream_shape.length_before_tool_calls",
            "tool_deltas.finish_reason_streamed",
            "tool_deltas.finish_reason_whole",
            "token_limits.max_tokens_whole",
            "parameters.n_streamed",
        ),
    ),
    Case(
        "the reason is always length",
        _with_reason("length"),
        ("stream_shape.stop_when_complete", "parameters.stop_as_text"),
    ),
    Case("the reason is tool_calls though cut", _tool_calls_even_if_cut(), ("stream_shape.length_before_tool_calls",)),
    Case("half characters", streams(_half_characters), ("stream_shape.whole_characters",)),
    Case("half a character at the end", _half_at_the_end(), ("stream_shape.whole_characters_when_cut",)),
    Case(
        "events that are not JSON",
        Fault(raw=_garbage),
        ("stream_shape.client_accumulates", "tool_deltas.client_accumulates_calls"),
    ),
    # 2
    Case(
        "call deltas without index",
        _each_call_delta(lambda call: call.pop("index")),
        ("tool_deltas.index_on_every_delta",),
    ),
    Case(
        "an id on each delta",
        _each_call_delta(lambda call: call.update(id=secrets.token_hex(4))),
        ("tool_deltas.id_and_name_once",),
    ),
    Case(
        "empty names",
        _each_call_delta(lambda call: call["function"].update(name=""), 1),
        ("tool_deltas.later_deltas_have_no_empty_names",),
    ),
    Case("all arguments at once", streams(_all_arguments_at_once), ("tool_deltas.arguments_come_in_pieces",)),
    Case(
        "arguments are cut",
        _each_call_delta(lambda call: call["function"].update(arguments=""), 9),
        ("tool_deltas.arguments_are_json",),
    ),
    Case(
        "empty content beside a call",
        change_message(lambda m: m.update(content=m["content"] or "")),
        ("tool_deltas.content_is_null_beside_a_call",),
    ),
    Case(
        "arguments as an object",
        _change_arguments({"text": 1}),
        ("tool_deltas.call_whole", "tool_choice.client_parses_calls"),
    ),
    Case(
        "the same call id always",
        change_message(lambda m: [c.update(id="call_0") for c in m.get("tool_calls") or []]),
        ("tool_deltas.call_ids_differ",),
    ),
    Case(
        "null call ids are refused",
        refuses_if(any_message(lambda m: m.get("tool_call_id", "") is None)),
        ("tool_deltas.null_call_id_is_accepted",),
    ),
    Case("tool results are dropped", keeps_messages(lambda i, m: m["role"] != "tool"), ("tool_deltas.result_is_read",)),
    # 3
    Case(
        "none calls",
        takes_for("tool_choice", lambda c: "required" if c == "none" else c),
        ("tool_choice.none_never_calls", "response_format.holds_beside_tools"),
    ),
    Case(
        "required does not call",
        takes_for("tool_choice", lambda c: "auto" if c == "required" else c),
        ("tool_choice.required_always_calls",),
    ),
    Case(
        "names are not heeded",
        takes_for("tool_choice", lambda c: "required" if isinstance(c, dict) else c),
        ("tool_choice.named_function_is_called", "tool_choice.named_function_streamed"),
    ),
    Case("a call's reason without a call", _with_reason("tool_calls"), ("tool_choice.auto_may_answer_or_call",)),
    Case(
        "arguments of another schema",
        _change_arguments('{"colour": "pink"}'),
        ("tool_choice.arguments_obey_the_schema",),
    ),
    Case("arguments null", _change_arguments("null"), ("tool_choice.tools_without_parameters",)),
    Case("two calls always", takes_for("parallel_tool_calls", lambda value: True), ("tool_choice.not_in_parallel",)),
    Case("one index for all calls", _each_call_delta(lambda call: call.update(index=0)), ("tool_choice.in_parallel",)),
    Case(
        "unknown choices are auto",
        takes_for("tool_choice", lambda c: c if c in ("none", "required") else "auto"),
        ("tool_choice.unknown_function_is_refused", "tool_choice.unknown_choice_is_refused"),
    ),
]
