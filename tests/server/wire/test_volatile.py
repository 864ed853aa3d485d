"""What changes at the head of a system prompt, and what happens to it."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.server.wire.volatile import steady

BILLING = "x-anthropic-billing-header: cc_version=2.1.77.a1b; cc_entrypoint=cli; cch=%s;"


def chat(system: Any, question: Any = "Hi.") -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_header_line_is_left_out_of_a_string() -> None:
    assert steady(chat(f"{BILLING % 'a'}\nBe brief.")) == chat("Be brief.")


def test_header_block_is_left_out_of_a_list() -> None:
    assert steady(chat([text(BILLING % "a"), text("Be brief.")])) == chat([text("Be brief.")])


def test_several_headers_and_blank_lines_after_them_are_left_out() -> None:
    assert steady(chat(f"{BILLING % 'a'}\nX-Request-Id: 7\n\n  Be brief.")) == chat("  Be brief.")


def test_system_message_of_nothing_but_a_header_is_left_out() -> None:
    assert steady(chat(BILLING % "a")) == chat("")[1:]


def test_two_calls_of_an_agent_begin_alike() -> None:
    first = steady(chat([text(BILLING % "36ee5"), text("You are an agent.")]))
    assert first == steady(chat([text(BILLING % "0aaa9"), text("You are an agent.")]))


@pytest.mark.parametrize(
    "line",
    [
        "Current time: 2026-11-23T04:54:20Z",
        "Now it is 2026-11-23 04:54.",
        "The clock says 4:54:20 pm.",
        "Session 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    ],
)
def test_first_line_with_time_or_id_moves_to_the_last_question(line: str) -> None:
    asked = [
        *chat(f"{line}\n\nBe brief."),
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Why?"},
    ]
    assert steady(asked) == [
        *chat("Be brief."),
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": f"{line}\n\nWhy?"},
    ]


def test_moved_line_becomes_a_part_of_a_question_in_parts() -> None:
    moved = steady(chat([text("It is 12:00:01."), text("Be brief.")], [text("Hi.")]))
    assert moved == chat([text("Be brief.")], [text("It is 12:00:01."), text("Hi.")])


@pytest.mark.parametrize(
    "system",
    [
        "Today is 2026-11-23.\nBe brief.",
        "Be at work at 9:30.\nBe brief.",
        "The meeting began at 12:00:01.",
        "Note: x-ray.\nBe brief.",
        "Be brief.\nIt is 12:00:01.",
        "Be brief.\nx-api-key: a header that the prompt tells of.",
        "It is 12:00:01, " + "and so on " * 30 + "\nBe brief.",
        "",
    ],
)
def test_other_prompts_stay_as_they_are(system: str) -> None:
    assert steady(chat(system)) == chat(system)


def test_line_stays_where_there_is_no_question_to_move_it_to() -> None:
    alone = [{"role": "system", "content": "It is 12:00:01.\nBe brief."}]
    assert steady(alone) == alone


def test_user_and_later_system_messages_are_not_touched() -> None:
    asked = [{"role": "user", "content": BILLING}, {"role": "system", "content": BILLING}]
    assert steady(asked) == asked


@pytest.mark.parametrize(
    "messages", [[], [None], [3, "x"], [{"role": "system"}], [{"role": "system", "content": [None]}]]
)
def test_malformed_messages_are_passed_on(messages: list[Any]) -> None:
    assert steady(messages) == messages


def test_given_messages_are_not_changed() -> None:
    asked = chat([text(BILLING), text("It is 12:00:01.\nBe brief.")], [text("Hi.")])
    before = repr(asked)
    steady(asked)
    assert repr(asked) == before
