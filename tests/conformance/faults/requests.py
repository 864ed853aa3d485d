"""Points 4 to 7: limits, forms, logprobs and sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.fake.model import Json
from tests.conformance.fake.server import Fault
from tests.conformance.faults.making import (
    COMPLETIONS,
    Case,
    change_message,
    choices,
    ignores,
    refuses_if,
    says,
    streams,
    takes_for,
    understands,
)


def _each_token(change: Callable[[Json], Any]) -> Fault:
    def whole(body: Json) -> None:
        for token in (body["choices"][0].get("logprobs") or {}).get("content") or []:
            change(token)

    return says(whole)


def _wild(body: Json) -> None:
    body["temperature"] = 1.0
    body.pop("seed", None)


def _never_thinking_schema(body: Json) -> None:
    if (body.get("chat_template_kwargs") or {}).get("enable_thinking"):
        body.pop("response_format", None)


CASES = [
    # 4
    Case(
        "max_tokens is ignored",
        ignores("max_tokens"),
        ("token_limits.max_tokens_whole", "token_limits.max_tokens_streamed"),
    ),
    Case(
        "max_completion_tokens is ignored",
        ignores("max_completion_tokens"),
        (
            "token_limits.max_completion_tokens_whole",
            "token_limits.max_completion_tokens_streamed",
            "token_limits.client_sends_either",
        ),
    ),
    Case(
        "null is a small limit",
        takes_for("max_tokens", lambda n: 8 if n is None else n),
        ("token_limits.null_is_no_limit",),
    ),
    Case(
        "nonsense is no limit",
        takes_for("max_tokens", lambda n: n if isinstance(n, int) else None),
        ("token_limits.nonsense_is_refused",),
    ),
    # 5
    Case(
        "text is JSON",
        takes_for("response_format", lambda f: f if f is None or f["type"] != "text" else {"type": "json_object"}),
        ("response_format.text_is_free",),
    ),
    Case(
        "json_object is ignored",
        takes_for("response_format", lambda f: None if f and f["type"] == "json_object" else f),
        ("response_format.json_object",),
    ),
    Case(
        "schemas are ignored",
        takes_for("response_format", lambda f: None if f and f["type"] == "json_schema" else f),
        tuple(
            f"response_format.{name}"
            for name in (
                "json_schema",
                "json_schema_streamed",
                "schema_without_strict",
                "references",
                "alternatives",
                "patterns",
                "lengths",
                "missing_reference_is_refused",
                "unknown_type_is_refused",
                "contradiction_is_refused",
                "missing_schema_is_refused",
                "holds_beside_tools",
                "holds_beside_tools_that_may_be_called",
                "client_parses",
            )
        ),
    ),
    Case(
        "unknown formats are text",
        takes_for("response_format", lambda f: None if f["type"] == "json_scheme" else f),
        ("response_format.unknown_format_is_refused",),
    ),
    Case(
        "no schema while thinking",
        understands(_never_thinking_schema),
        ("response_format.holds_after_thinking",),
        thinks=True,
    ),
    # 6
    Case(
        "three candidates always",
        understands(lambda b: b.update(top_logprobs=3) if b.get("logprobs") else None),
        (
            "logprobs.without_top_logprobs",
            "logprobs.top_logprobs",
            "logprobs.top_logprobs_0",
            "logprobs.top_logprobs_20",
        ),
    ),
    Case(
        "probabilities, not logarithms",
        _each_token(lambda t: t.update(logprob=0.9)),
        ("logprobs.values_are_log_probabilities",),
    ),
    Case("no bytes", _each_token(lambda t: t.update(bytes=None)), ("logprobs.bytes_are_the_text",)),
    Case("the least likely first", _each_token(lambda t: t["top_logprobs"].reverse()), ("logprobs.top_logprobs",)),
    Case(
        "21 candidates", takes_for("top_logprobs", lambda n: min(n or 0, 20)), ("logprobs.top_logprobs_21_is_refused",)
    ),
    Case(
        "no logprobs in streams",
        streams(lambda cs: [c.update(logprobs=None) for c in choices(cs)] and None),
        ("logprobs.streamed",),
    ),
    Case("logprobs always", understands(lambda b: b.update(logprobs=True)), ("logprobs.only_if_asked",)),
    Case("logprobs never", ignores("logprobs"), ("logprobs.client_reads_them",)),
    Case(
        "no logprobs of completions",
        ignores("logprobs", path=COMPLETIONS),
        ("logprobs.completions_have_the_older_form",),
    ),
    # 7
    Case("n is ignored", ignores("n"), ("parameters.n_gives_n_choices", "parameters.n_streamed")),
    Case(
        "always greedy",
        understands(lambda b: b.update(temperature=0)),
        ("parameters.n_choices_differ", "parameters.seeds_differ", "parameters.draws_without_a_seed_differ"),
    ),
    Case("n 0 is 1", takes_for("n", lambda n: n or 1), ("parameters.n_0_is_refused",)),
    Case(
        "logit_bias is ignored",
        ignores("logit_bias"),
        ("parameters.logit_bias_forces", "parameters.logit_bias_forbids"),
    ),
    Case("seeds are ignored", ignores("seed"), ("parameters.seed_repeats", "parameters.seed_0_is_a_seed")),
    Case("0 is no seed", takes_for("seed", lambda seed: seed or None), ("parameters.seed_0_is_a_seed",)),
    Case(
        "one seed for all",
        understands(lambda b: b.update(seed=1)),
        ("parameters.seeds_differ", "parameters.draws_without_a_seed_differ"),
    ),
    Case("never greedy", understands(_wild), ("parameters.greedy_repeats",)),
    Case(
        "stop is ignored",
        ignores("stop"),
        ("parameters.stop_as_text", "parameters.stop_as_list", "parameters.stop_is_never_sent_in_part"),
    ),
    Case(
        "lists of stops are ignored",
        takes_for("stop", lambda s: None if isinstance(s, list) else s),
        ("parameters.stop_as_list",),
    ),
    Case(
        "part of the stop is sent",
        change_message(lambda m: m.update(content=f"{m['content']}be")),
        ("parameters.stop_is_never_sent_in_part",),
    ),
    Case(
        "half a stop stops",
        takes_for("stop", lambda s: "gamma" if s == "gamma epsilon" else s),
        ("parameters.what_only_begins_a_stop_is_sent",),
    ),
    Case("no stop is refused", refuses_if(lambda b: "stop" in b and not b["stop"]), ("parameters.stop_may_be_empty",)),
    Case("penalties are ignored", ignores("frequency_penalty"), ("parameters.frequency_penalty",)),
    Case(
        "penalties are refused",
        refuses_if(lambda b: bool(b.get("presence_penalty"))),
        ("parameters.penalties_are_accepted",),
    ),
    Case(
        "user is refused", refuses_if(lambda b: bool(b.get("user"))), ("parameters.fields_without_meaning_are_ignored",)
    ),
    Case("nulls are refused", refuses_if(lambda b: None in b.values()), ("parameters.nulls_are_as_left_out",)),
    Case(
        "unknown fields are refused",
        refuses_if(lambda b: "field_of_next_year" in b),
        ("parameters.unknown_fields_are_ignored",),
    ),
]
