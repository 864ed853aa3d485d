"""Points 12 to 15: usage, embeddings, disconnects and agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.fake.model import Json
from tests.conformance.fake.server import Fault
from tests.conformance.faults.making import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    Case,
    each_message,
    ignores,
    keeps_messages,
    lacks,
    refuses_if,
    says,
    streams,
    takes_for,
    understands,
)


def _header_stays(path: str) -> Fault:
    def hide(text: Any) -> Any:
        if isinstance(text, list):
            return [{**part, "text": hide(part["text"])} for part in text]
        return text.replace("x-anthropic", "x-other") if isinstance(text, str) else text

    def change(body: Json) -> None:
        if "system" in body:
            body["system"] = hide(body["system"])
        for message in body["messages"]:
            message["content"] = hide(message.get("content"))

    return understands(change, path)


def _first_line_goes(message: Json) -> None:
    if message["role"] == "system" and "\n" in message["content"]:
        message["content"] = message["content"].partition("\n")[2]


def _usage(**changes: Callable[[Json], Any]) -> Fault:
    def change(body: Json) -> None:
        for name, value in changes.items():
            body["usage"][name] = value(body["usage"])

    return says(change)


def _embeds(change: Callable[[Any], Any]) -> Fault:
    def whole(body: Json) -> None:
        for item in body["data"]:
            item["embedding"] = change(item["embedding"])

    return says(whole, EMBEDDINGS)


CASES = [
    # 12
    Case("a wrong sum", _usage(total_tokens=lambda usage: 1), ("usage.total_is_the_sum",)),
    Case(
        "prompts are not counted",
        _usage(prompt_tokens=lambda usage: 3),
        ("usage.counts_the_template", "usage.counts_every_message", "usage.counts_the_tools"),
    ),
    Case(
        "streams count otherwise",
        streams(lambda cs: cs[-1].get("usage", {}).update(prompt_tokens=1)),
        ("usage.streamed_is_the_same",),
    ),
    Case(
        "each choice counts its prompt",
        says(lambda b: b["usage"].update(prompt_tokens=b["usage"]["prompt_tokens"] * len(b["choices"]))),
        ("usage.prompt_counts_once",),
    ),
    Case("always cached", lacks("always_cached"), ("usage.new_prompt_is_not_cached",)),
    Case(
        "never cached",
        lacks("never_cached"),
        (
            "usage.repeated_prompt_is_cached",
            "usage.conversation_is_cached",
            "agents.changing_header_chat",
            "agents.changing_header_as_a_part",
            "agents.changing_header_messages",
        ),
    ),
    Case(
        "no details of usage",
        says(lambda b: b["usage"].pop("prompt_tokens_details") and None),
        ("usage.client_reads_usage",),
    ),
    # 13
    Case(
        "base64 of zeros",
        _embeds(lambda v: "AAAA" * 16 if isinstance(v, str) else v),
        ("embeddings.through_the_client", "embeddings.base64_on_request"),
    ),
    Case(
        "base64 always",
        understands(lambda b: b.update(encoding_format="base64"), EMBEDDINGS),
        ("embeddings.floats_without_a_format",),
    ),
    Case(
        "long vectors", _embeds(lambda v: [2 * x for x in v] if isinstance(v, list) else v), ("embeddings.unit_length",)
    ),
    Case("vectors out of order", says(lambda b: b["data"].reverse(), EMBEDDINGS), ("embeddings.batches",)),
    Case(
        "one vector for all texts",
        takes_for("input", lambda v: ["x"] * len(v) if isinstance(v, list) else "x", EMBEDDINGS),
        ("embeddings.texts_differ",),
    ),
    Case(
        "token ids are refused",
        refuses_if(lambda b: isinstance(b["input"], list) and not isinstance(b["input"][0], str), EMBEDDINGS),
        ("embeddings.token_arrays",),
    ),
    Case("dimensions are ignored", ignores("dimensions", path=EMBEDDINGS), ("embeddings.dimensions",)),
    Case(
        "tokens are not counted",
        says(lambda b: b.update(usage={"prompt_tokens": 1, "total_tokens": 1}), EMBEDDINGS),
        ("embeddings.counts_tokens",),
    ),
    Case(
        "nothing is embedded",
        takes_for("input", lambda v: v if isinstance(v, str | list) and v else "x", EMBEDDINGS),
        ("embeddings.nothing_is_refused",),
    ),
    # 14
    Case(
        "nothing is cancelled",
        lacks("never_cancels"),
        (
            "disconnects.cancelled_in_mid_stream",
            "disconnects.cancelled_without_a_stream",
            "disconnects.cancelled_in_the_prompt",
        ),
    ),
    Case("the next request waits", lacks("never_cancels", "one_at_a_time"), ("disconnects.next_request_is_not_late",)),
    Case("silence", lacks("no_keep_alive"), ("disconnects.silence_is_broken",)),
    # 15
    Case("the header stays", _header_stays(CHAT), ("agents.changing_header_chat", "agents.changing_header_as_a_part")),
    Case("the header stays in messages", _header_stays(MESSAGES), ("agents.changing_header_messages",)),
    Case(
        "all goes with the header",
        keeps_messages(lambda i, m: "x-anthropic" not in str(m["content"])),
        ("agents.rest_of_the_prompt_is_read",),
    ),
    Case("every first line goes", each_message(_first_line_goes), ("agents.ordinary_first_lines_are_read",)),
]
