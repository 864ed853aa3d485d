"""Points 16 to 19: the other APIs, endpoints and safety."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.fake.model import Json
from tests.conformance.fake.server import Fault
from tests.conformance.faults.making import (
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Case,
    fails_with,
    ignores,
    lacks,
    refuses_if,
    says,
    streams,
    takes_for,
    understands,
)


def _merged(kind: str) -> Callable[[list[Json]], list[Json]]:
    """Return a change of events that puts all deltas of a kind into the first."""

    def change(events: list[Json]) -> list[Json]:
        found = [event for event in events if event["type"] == kind]
        return [event for event in events if not any(event is other for other in found[1:])]

    return change


def _of_text(name: str, text: str, path: str) -> Fault:
    return says(lambda body: body.update({name: text}), path)


def _openai_shape(status: int, body: Json) -> tuple[int, Json]:
    return status, {"error": {**body["error"], "code": None, "param": None}}


CASES = [
    # 16
    Case("another id of messages", _of_text("id", "1", MESSAGES), ("anthropic_api.message",)),
    Case(
        "no stop sequence is named",
        says(lambda b: b.update(stop_sequence=None), MESSAGES),
        ("anthropic_api.stop_reasons",),
    ),
    Case(
        "blocks do not end",
        streams(lambda es: [e for e in es if e["type"] != "content_block_stop"], MESSAGES),
        ("anthropic_api.order_of_events",),
    ),
    Case(
        "no input tokens",
        streams(lambda es: es[0]["message"]["usage"].update(input_tokens=0), MESSAGES),
        ("anthropic_api.start_and_end_of_streams",),
    ),
    Case(
        "messages at once",
        streams(_merged("content_block_delta"), MESSAGES),
        ("anthropic_api.client_accumulates", "anthropic_api.tool_use_streamed"),
    ),
    Case(
        "no tool is used",
        ignores("tool_choice", path=MESSAGES),
        ("anthropic_api.tool_use", "anthropic_api.tool_use_streamed"),
    ),
    Case(
        "a tool is always used",
        takes_for("tool_choice", lambda c: {"type": "any"}, MESSAGES),
        ("anthropic_api.tool_choice_none",),
    ),
    Case(
        "results are dropped",
        understands(lambda b: b.update(messages=b["messages"][:2]), MESSAGES),
        ("anthropic_api.tool_results",),
    ),
    Case(
        "system blocks are dropped",
        takes_for("system", lambda s: s if isinstance(s, str) else "", MESSAGES),
        ("anthropic_api.system_and_blocks",),
    ),
    Case("forms are ignored", ignores("output_config", path=MESSAGES), ("anthropic_api.structured_output",)),
    Case("thinking is refused", refuses_if(lambda b: "thinking" in b, MESSAGES), ("anthropic_api.thinking",)),
    Case(
        "another count",
        says(lambda b: b.update(input_tokens=1), f"{MESSAGES}/count_tokens"),
        ("anthropic_api.counting_tokens",),
    ),
    Case("errors of another API", fails_with(_openai_shape, MESSAGES), ("anthropic_api.errors_have_its_shape",)),
    # 17
    Case("another id of responses", _of_text("id", "1", RESPONSES), ("responses_api.response",)),
    Case("always completed", _of_text("status", "completed", RESPONSES), ("responses_api.status_tells_the_end",)),
    Case("text.format is ignored", ignores("text", path=RESPONSES), ("responses_api.text_format",)),
    Case(
        "no sequence numbers",
        streams(lambda es: [e.pop("sequence_number") for e in es] and None, RESPONSES),
        ("responses_api.order_of_events",),
    ),
    Case(
        "responses at once",
        streams(_merged("response.output_text.delta"), RESPONSES),
        ("responses_api.deltas_are_the_text",),
    ),
    Case(
        "no last event",
        streams(lambda es: es[:-1], RESPONSES),
        ("responses_api.client_accumulates", "responses_api.order_of_events"),
    ),
    Case(
        "nothing is remembered",
        ignores("previous_response_id", path=RESPONSES),
        ("responses_api.previous_response", "responses_api.previous_response_is_a_chain"),
    ),
    Case("unknown ids begin anew", lacks("any_previous"), ("responses_api.unknown_previous_response",)),
    Case("nothing is deleted", lacks("never_deletes"), ("responses_api.kept_and_deleted",)),
    Case("instructions are ignored", ignores("instructions", path=RESPONSES), ("responses_api.instructions",)),
    Case(
        "no function is called",
        ignores("tool_choice", path=RESPONSES),
        ("responses_api.function_calls", "responses_api.function_calls_streamed"),
    ),
    # 18
    Case("another kind of list", _of_text("object", "models", "/v1/models"), ("endpoints.models",)),
    Case("another model", _of_text("id", "other", "/v1/models/NAME"), ("endpoints.one_model",)),
    Case("completions lose a piece", streams(lambda chunks: chunks[1:], COMPLETIONS), ("endpoints.completions",)),
    Case(
        "the first prompt only",
        takes_for("prompt", lambda p: p[0] if isinstance(p, list) else p, COMPLETIONS),
        ("endpoints.completions_of_several_prompts",),
    ),
    Case("no embeddings", lacks(f"no {EMBEDDINGS}"), ("endpoints.embeddings",)),
    Case("no responses", lacks(f"no {RESPONSES}"), ("endpoints.responses",)),
    Case("no messages", lacks(f"no {MESSAGES}"), ("endpoints.messages",)),
    Case("another text comes back", _of_text("content", "x", "/detokenize"), ("endpoints.tokenize_and_back",)),
    Case("ill", fails_with(lambda status, body: (503, body), "/health"), ("endpoints.health",)),
    Case("metrics in prose", _of_text("text", "there are many", "/metrics"), ("endpoints.metrics",)),
    Case("an empty page", _of_text("text", "", "/docs"), ("endpoints.docs",)),
    # 19
    Case("any host", lacks("any_host"), ("safety.foreign_host_is_refused",)),
    Case("no names", lacks("no_names"), ("safety.own_names_are_accepted",)),
    Case(
        "any origin",
        Fault(headers=lambda path, h: {"access-control-allow-origin": "*"}),
        ("safety.foreign_pages_may_not_read", "safety.foreign_pages_may_not_ask"),
    ),
    Case("keys are repeated", lacks("repeats_keys"), ("safety.key_is_not_repeated",)),
]
