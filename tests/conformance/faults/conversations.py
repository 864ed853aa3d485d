"""Points 8 to 11: messages, thoughts, overflow and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.fake.model import MODEL, N_CTX, ApiError, Json
from tests.conformance.fake.server import Fault
from tests.conformance.faults.making import (
    CHAT,
    COMPLETIONS,
    Case,
    any_message,
    change_message,
    each_delta,
    each_message,
    fails_with,
    ignores,
    keeps_messages,
    lacks,
    refuses_if,
    says,
    takes_for,
    understands,
)


def _is_first_system(index: int, message: Json) -> bool:
    return index == 0 or message["role"] != "system"


def _changes_parts(change: Callable[[list[Json]], Any]) -> Fault:
    def apply(message: Json) -> None:
        if isinstance(message.get("content"), list):
            message["content"] = change(message["content"])

    return each_message(apply)


def _cuts_texts(path: str = CHAT) -> Fault:
    def change(body: Json) -> None:
        for message in body.get("messages", []):
            message["content"] = str(message["content"])[-100:]
        if "prompt" in body:
            body["prompt"] = body["prompt"][-100:]

    return understands(change, path)


def _error_without(name: str, value: Any) -> Fault:
    def change(status: int, body: Json) -> tuple[int, Json]:
        body["error"][name] = value
        return status, body

    return fails_with(change)


def _overloaded(body: Json) -> None:
    if str(body["messages"][-1]["content"])[-1].isdigit():
        raise ApiError(503, "Too much.", "overloaded")


def _without_tags(message: Json) -> None:
    message["content"] = f"<think>{message.get('reasoning_content')}</think>{message['content']}"


CASES = [
    # 8
    Case("parts as their JSON", _changes_parts(str), ("messages.content_as_parts",)),
    Case("the first part only", _changes_parts(lambda parts: parts[:1]), ("messages.several_parts",)),
    Case(
        "null content is refused",
        refuses_if(any_message(lambda m: m.get("content", "") is None)),
        ("messages.null_content",),
    ),
    Case(
        "missing content is refused",
        refuses_if(any_message(lambda m: "content" not in m)),
        ("messages.missing_content_beside_calls",),
    ),
    Case(
        "empty content is refused",
        refuses_if(any_message(lambda m: m.get("content") == "")),
        ("messages.empty_content",),
    ),
    Case("developers are dropped", keeps_messages(lambda i, m: m["role"] != "developer"), ("messages.role_developer",)),
    Case("late system messages are dropped", keeps_messages(_is_first_system), ("messages.late_system_message",)),
    Case(
        "results as parts are dropped",
        each_message(lambda m: m.update(content="") if isinstance(m.get("content"), list) else None),
        ("messages.tool_results",),
    ),
    Case(
        "two calls are refused",
        refuses_if(any_message(lambda m: len(m.get("tool_calls") or []) > 1)),
        ("messages.results_of_two_calls",),
    ),
    Case("names are refused", refuses_if(any_message(lambda m: "name" in m)), ("messages.names_and_unknown_keys",)),
    Case(
        "pictures are dropped",
        _changes_parts(lambda ps: [p for p in ps if p["type"] == "text"]),
        ("messages.pictures_are_not_dropped",),
    ),
    Case(
        "unknown roles are users",
        each_message(lambda m: m.update(role="user") if m["role"] == "wizard" else None),
        ("messages.unknown_role_is_refused",),
    ),
    Case(
        "no messages are one",
        understands(lambda b: b.update(messages=b["messages"] or [{"role": "user", "content": ""}])),
        ("messages.no_messages_are_refused",),
    ),
    # 9
    Case(
        "one name for thoughts",
        change_message(lambda m: m.pop("reasoning", None)),
        ("reasoning.both_names_whole",),
        thinks=True,
    ),
    Case(
        "one name for thoughts, streamed",
        each_delta(lambda d: d.pop("reasoning", None)),
        ("reasoning.both_names_streamed",),
        thinks=True,
    ),
    Case("tags in the answer", change_message(_without_tags), ("reasoning.no_tags_in_the_answer",), thinks=True),
    Case(
        "template arguments are ignored",
        ignores("chat_template_kwargs"),
        ("reasoning.enable_thinking_false",),
        thinks=True,
    ),
    Case("the effort is ignored", ignores("reasoning_effort"), ("reasoning.reasoning_effort_none",), thinks=True),
    Case(
        "every effort is none",
        takes_for("reasoning_effort", lambda e: "none"),
        ("reasoning.reasoning_effort_high",),
        thinks=True,
    ),
    Case("the effort is refused", refuses_if(lambda b: "reasoning_effort" in b), ("reasoning.effort_is_accepted",)),
    Case(
        "template arguments are refused",
        refuses_if(lambda b: "chat_template_kwargs" in b),
        ("reasoning.template_kwargs_are_accepted",),
    ),
    Case(
        "thoughts in history are refused",
        refuses_if(any_message(lambda m: "reasoning" in m)),
        ("reasoning.accepted_in_history",),
    ),
    # 10
    Case(
        "no context is published",
        says(lambda b: b["data"][0].pop("context_length") and None, "/v1/models"),
        ("overflow.context_is_published",),
    ),
    Case(
        "long prompts are cut",
        _cuts_texts(),
        (
            "overflow.is_refused",
            "overflow.has_the_code",
            "overflow.is_refused_before_a_stream_begins",
            "overflow.system_prompt_is_not_cut",
            "overflow.client_raises_bad_request",
        ),
    ),
    Case(
        "old messages are dropped",
        understands(lambda b: b.update(messages=b["messages"][-1:])),
        ("overflow.system_prompt_is_not_cut",),
    ),
    Case("long completions are cut", _cuts_texts(COMPLETIONS), ("overflow.completions_refuse_it",)),
    Case(
        "errors without a code",
        _error_without("code", None),
        (
            "overflow.has_the_code",
            "overflow.completions_refuse_it",
            "overflow.client_raises_bad_request",
            "errors.unknown_model",
            "responses_api.overflow",
        ),
    ),
    Case("errors of another type", _error_without("type", "server_error"), ("overflow.has_the_type",)),
    Case(
        "errors without numbers",
        _error_without("message", "Too long."),
        ("overflow.names_the_numbers", "errors.missing_messages", "anthropic_api.overflow"),
    ),
    Case(
        "every error is a 500",
        fails_with(lambda status, body: (500, body)),
        (
            "overflow.is_refused",
            "errors.bad_json",
            "errors.empty_body",
            "errors.wrong_types",
            "errors.unknown_path",
            "errors.client_raises_by_status",
            "anthropic_api.client_raises",
        ),
    ),
    Case(
        "large limits are refused",
        refuses_if(lambda b: (b.get("max_tokens") or 0) > N_CTX),
        ("overflow.answer_may_fill_the_context",),
    ),
    # 11
    Case(
        "every name is the model",
        understands(lambda b: b.update(model=MODEL)),
        ("errors.unknown_model", "errors.client_raises_by_status", "safety.names_do_not_leave_the_store"),
    ),
    Case("no param", _error_without("param", None), ("errors.names_the_parameter",)),
    Case(
        "errors as plain text",
        fails_with(lambda status, body: (status, "Not found")),
        ("errors.unknown_path", "errors.wrong_method", "errors.bad_json"),
    ),
    Case("any key", lacks("any_key"), ("errors.wrong_key", "anthropic_api.x_api_key")),
    Case("bodies of any size", lacks("any_size"), ("errors.too_large",)),
    Case("no Retry-After", understands(_overloaded), ("errors.overload",)),
    Case("streams that just end", lacks("ends_without_error"), ("errors.errors_within_a_stream",)),
]
