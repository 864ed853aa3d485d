"""What options mean, and which values are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from localllm.engine.request import SamplingParams
from localllm.errors import InvalidGrammar, RequestError
from localllm.llm.bounds import BOUNDS, MAX_SEED
from localllm.llm.options import GenerateOptions, parse_options


def test_no_options_are_the_engines_defaults() -> None:
    spec = parse_options({})
    (request,) = spec.requests([1, 2])
    assert request.prompt == (1, 2)
    assert request.sampling == SamplingParams()
    assert (request.max_tokens, request.n_logprobs, spec.controls.stop, spec.controls.grammar) == (None, None, (), None)


def test_every_sampling_field_is_an_option() -> None:
    assert set(SamplingParams.__struct_fields__) <= set(GenerateOptions.__annotations__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", None),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("top_k", 1.5),
        ("max_tokens", 0),
        ("max_tokens", 2**31),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("n", 0),
        ("logprobs", 21),
        ("repeat_penalty", 0),
        ("mirostat", 3),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [1]),
        ("stop", [f"stop {index}" for index in range(65)]),
        ("logit_bias", {"a": 1.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", [1]),
        ("ignore_eos", 1),
        ("lora", "0"),
        ("lora", {"id": 0, "scale": 1}),
        ("lora", [[0, 1.0]]),
        ("lora", [{"id": 0}]),
        ("lora", [{"id": 0, "scale": 1, "name": "x"}]),
        ("lora", [{"id": -1, "scale": 1}]),
        ("lora", [{"id": 2**31, "scale": 1}]),
        ("lora", [{"id": True, "scale": 1}]),
        ("lora", [{"id": 0.0, "scale": 1}]),
        ("lora", [{"id": 0, "scale": math.nan}]),
        ("lora", [{"id": 0, "scale": 11}]),
        ("lora", [{"id": 0, "scale": "1"}]),
        ("dry_sequence_breakers", "abc"),
    ],
)
def test_value_out_of_bounds_is_a_request_error(name: str, value: Any) -> None:
    with pytest.raises(RequestError):
        parse_options({name: value})


def test_message_says_what_is_allowed() -> None:
    with pytest.raises(RequestError, match=r"top_p is 2; it must be a finite number above 0 and at most 1\."):
        parse_options({"top_p": 2})
    with pytest.raises(RequestError, match=r"max_tokens is 0; it must be a whole number at least 1\."):
        parse_options({"max_tokens": 0})


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_bounds_themselves_are_allowed(name: str) -> None:
    bound = BOUNDS[name]
    for value in (bound.low, bound.high):
        if math.isfinite(value) and not (bound.open_low and value == bound.low):
            parse_options({name: int(value) if bound.integer else value})


def test_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(RequestError) as caught:
        parse_options({"temprature": 1})
    assert caught.value.hint == "Did you mean temperature?"


def test_logprobs_true_means_the_chosen_tokens_only() -> None:
    assert [parse_options({"logprobs": value}).n_logprobs for value in (None, False, True, 0, 5)] == [
        None,
        None,
        0,
        0,
        5,
    ]


def test_seed_zero_is_kept_and_seeds_wrap() -> None:
    assert [r.sampling.seed for r in parse_options({"seed": 0, "n": 2}).requests([1])] == [0, 1]
    assert [r.sampling.seed for r in parse_options({"seed": MAX_SEED, "n": 2}).requests([1])] == [MAX_SEED, 0]


@pytest.mark.parametrize(
    ("value", "lora"),
    [
        (None, None),
        ([], ()),
        ([{"id": 1, "scale": 1}, {"id": 0, "scale": -0.5}], ((1, 1.0), (0, -0.5))),
    ],
)
def test_lora_reaches_every_request(value: Any, lora: Any) -> None:
    assert [r.lora for r in parse_options({"lora": value, "n": 2}).requests([1])] == [lora, lora]


def test_schema_may_be_a_dict_or_text() -> None:
    schema = {"type": "object"}
    for given in (schema, json.dumps(schema)):
        grammar = parse_options({"json_schema": given}).controls.grammar
        assert grammar is not None and grammar.kind == "json_schema"
        assert json.loads(grammar.text) == schema


@pytest.mark.parametrize("schema", ["{", "[]", "1", [1], {"a": object()}])
def test_bad_schema_is_an_invalid_grammar(schema: Any) -> None:
    with pytest.raises(InvalidGrammar):
        parse_options({"json_schema": schema})


def test_grammar_and_schema_exclude_each_other() -> None:
    with pytest.raises(InvalidGrammar, match="exclude"):
        parse_options({"json_schema": {}, "grammar": 'root ::= "a"'})
    grammar = parse_options({"grammar": 'root ::= "a"'}).controls.grammar
    assert grammar is not None and grammar.kind == "gbnf"


@pytest.mark.parametrize("spec", ["auto", "off", "ngram", "lookahead", "draft", None])
def test_spec_reaches_the_request(spec: Any) -> None:
    (request,) = parse_options({"spec": spec}).requests([1])
    assert request.spec == spec


def test_unknown_spec_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(RequestError, match="auto, off, ngram, lookahead, draft"):
        parse_options({"spec": "always"})
