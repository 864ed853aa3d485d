from __future__ import annotations

import functools
import json
import random
import re
import time
from typing import Any

import jsonschema
import numpy as np
import pytest

from localllm.chat.grammar import GrammarCompiler, GrammarConstraint, VocabView
from localllm.errors import InvalidGrammar
from tests.chat.vocabularies import END, END_OF_TURN, START, ByteVocab, smollm2

VOCAB = ByteVocab()
COMPILER = GrammarCompiler(VOCAB)

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age", "next"],
    "additionalProperties": False,
}
SCHEMAS: list[Any] = [
    PERSON,
    {"type": "object"},
    {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 4},
    {"type": "string", "pattern": "^[a-f]{2,5}$"},
    {"type": "string", "format": "date"},
    {"type": "object", "patternProperties": {"^x": {"type": "boolean"}}, "additionalProperties": False},
    {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]},
    {"allOf": [{"type": "integer", "multipleOf": 2}, {"minimum": 10, "maximum": 99}]},
    {"type": ["boolean", "null"], "title": "t", "description": "d", "x-ui": 1},
    {"const": {"a": [1, "é"]}},
    {
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
]


def _allowed(constraint: GrammarConstraint, vocab: VocabView) -> list[int]:
    logits = np.zeros(vocab.n_vocab, dtype=np.float32)
    constraint.mask_logits(logits)
    return np.flatnonzero(logits == 0).tolist()


def _walk(compiler: GrammarCompiler, vocab: VocabView, kind: str, text: str, rng: random.Random) -> bytes | None:
    """Generate at random what the grammar allows, preferring to close; None where it did not end in time."""
    constraint = compiler.compile(kind, text)
    ends = set(vocab.end_tokens)
    written = b""
    for _ in range(400):
        allowed = _allowed(constraint, vocab)
        assert allowed, written
        assert (not ends.isdisjoint(allowed)) == constraint.is_accepting
        assert constraint.is_complete == (set(allowed) <= ends)
        closing = [t for t in allowed if vocab.piece(t) in (b'"', b"}", b"]", b'"}')]
        pick = closing if closing and rng.random() < 0.3 else allowed
        token = rng.choice(pick)
        assert constraint.allows(token)
        if token in ends:
            return written
        assert not vocab.is_control(token)
        constraint.accept(token)
        written += vocab.piece(token)
    return None


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_random_walks_always_write_valid_documents(schema: Any) -> None:
    rng = random.Random(7)
    written = [_walk(COMPILER, VOCAB, "json_schema", json.dumps(schema), rng) for _ in range(15)]
    finished = [document for document in written if document is not None]
    assert len(finished) >= 3
    for document in finished:
        jsonschema.validate(json.loads(document.decode("utf-8")), schema)


@pytest.mark.real
@pytest.mark.parametrize("schema", SCHEMAS[:4], ids=json.dumps)
def test_random_walks_over_the_real_vocabulary_write_valid_documents(schema: Any) -> None:
    vocab = smollm2()
    compiler = _real_compiler()
    written = [_walk(compiler, vocab, "json_schema", json.dumps(schema), random.Random(seed)) for seed in range(4)]
    finished = [document for document in written if document is not None]
    assert finished
    for document in finished:
        jsonschema.validate(json.loads(document.decode("utf-8")), schema)


@functools.cache
def _real_compiler() -> GrammarCompiler:
    return GrammarCompiler(smollm2())


@pytest.mark.real
def test_mask_is_cheap_over_the_real_vocabulary() -> None:
    constraint = _real_compiler().compile("json_schema", json.dumps(PERSON))
    vocab = smollm2()
    logits = np.zeros(vocab.n_vocab, dtype=np.float32)
    times = []
    for token in vocab.tokenize('{"name": "Ann Smith", "age": 41, "tags": ["a"], "next": null}'):
        started = time.perf_counter()
        constraint.mask_logits(logits)
        times.append(time.perf_counter() - started)
        constraint.accept(token)
    assert float(np.median(times)) < 1e-3
    assert constraint.is_complete


def test_json_object_is_any_object() -> None:
    rng = random.Random(3)
    written = [_walk(COMPILER, VOCAB, "json_object", "", rng) for _ in range(20)]
    assert all(isinstance(json.loads(document), dict) for document in written if document is not None)


@pytest.mark.parametrize("kind", ["regex", "gbnf", "lark"])
def test_other_kinds_generate_their_language(kind: str) -> None:
    text = {"regex": "[ab]{2}c?", "gbnf": 'root ::= [ab] [ab] "c"?', "lark": "start: /[ab]{2}/ /c/?"}[kind]
    rng = random.Random(1)
    for _ in range(10):
        written = _walk(COMPILER, VOCAB, kind, text, rng)
        assert written is not None
        assert re.fullmatch(rb"[ab]{2}c?", written)


def test_end_tokens_are_allowed_exactly_where_the_grammar_accepts() -> None:
    constraint = COMPILER.compile("regex", "ab?")
    assert not constraint.allows(END)
    constraint.accept(ord("a"))
    assert constraint.allows(END) and constraint.allows(END_OF_TURN) and constraint.allows(ord("b"))
    assert not constraint.is_complete
    constraint.accept(ord("b"))
    assert constraint.is_complete
    assert _allowed(constraint, VOCAB) == [END, END_OF_TURN]


def test_control_tokens_are_never_text() -> None:
    constraint = COMPILER.compile("regex", "<.*>")
    assert ord("<") in _allowed(constraint, VOCAB)
    assert not {END, END_OF_TURN, START} & set(_allowed(constraint, VOCAB))


def test_whitespace_is_bounded() -> None:
    constraint = COMPILER.compile("json_object")
    constraint.accept(ord("{"))
    constraint.accept(ord(" "))
    assert not constraint.allows(ord(" ")) and not constraint.allows(ord("\n"))
    assert COMPILER.compile("json_object").n_allowed(list(b'{\n  "a": [1, 2]\n}')) == 17
    assert COMPILER.compile("json_object").n_allowed(list(b" {")) == 0


def test_rollback_takes_tokens_back() -> None:
    constraint = COMPILER.compile("regex", "abc|abd")
    before = _allowed(constraint, VOCAB)
    for byte in b"abc":
        constraint.accept(byte)
    constraint.rollback(1)
    assert _allowed(constraint, VOCAB) == [ord("c"), ord("d")]
    constraint.rollback(2)
    assert _allowed(constraint, VOCAB) == before
    with pytest.raises(InvalidGrammar):
        constraint.rollback(1)


def test_rollback_over_the_end_of_the_turn() -> None:
    constraint = COMPILER.compile("regex", "a*")
    constraint.accept(END)
    assert constraint.is_complete
    assert not constraint.allows(ord("a"))
    assert _allowed(constraint, VOCAB) == [END, END_OF_TURN]
    constraint.rollback(1)
    assert constraint.allows(ord("a"))


def test_forbidden_token_is_refused() -> None:
    constraint = COMPILER.compile("regex", "ab")
    assert not constraint.allows(ord("b"))
    assert not constraint.allows(-1) and not constraint.allows(VOCAB.n_vocab)
    with pytest.raises(InvalidGrammar):
        constraint.accept(ord("b"))
    with pytest.raises(InvalidGrammar):
        constraint.accept(END)
    assert constraint.n_allowed(list(b"abc")) == 2
    assert constraint.n_allowed([*b"ab", END, *b"ab"]) == 3
    assert _allowed(constraint, VOCAB) == [ord("a")]


def test_constraints_of_one_grammar_do_not_share_their_place() -> None:
    first, second = (COMPILER.compile("regex", "ab") for _ in range(2))
    first.accept(ord("a"))
    assert second.allows(ord("a")) and not second.allows(ord("b"))
    assert first.allows(ord("b"))


def test_mask_touches_only_forbidden_logits() -> None:
    constraint = COMPILER.compile("regex", "[abc]")
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(VOCAB.n_vocab).astype(np.float32)
    before = logits.copy()
    constraint.mask_logits(logits)
    allowed = [ord(c) for c in "abc"]
    assert np.array_equal(logits[allowed], before[allowed])
    assert np.isneginf(np.delete(logits, allowed)).all()


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("json_schema", "{", "not JSON"),
        ("json_schema", '{"minimum": NaN}', "NaN"),
        ("json_schema", "false", "not an object"),
        ("json_schema", "[]", "not an object"),
        ("json_schema", '{"type": "strin"}', "strin"),
        ("json_schema", '{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("json_schema", '{"type": "string", "minLenght": 3}', "minLenght"),
        ("json_schema", '{"properties": {"a": {"if": {}}}}', "'if' at $.properties.a"),
        ("json_schema", '{"not": {}}', "not"),
        ("json_schema", '{"x-guidance": {"lenient": true}}', "x-guidance"),
        ("json_schema", '{"type": "number", "minimum": 2, "exclusiveMinimum": true}', "exclusiveMinimum"),
        ("json_schema", '{"type": "string", "format": "made-up"}', "made-up"),
        ("json_schema", '{"$ref": "https://example.com/s.json"}', "example.com"),
        ("json_schema", '{"type": "string", "pattern": "(?=a)b"}', "look-a"),
        ("json_schema", '{"oneOf": [{"type": "number"}, {"type": "integer"}]}', "oneOf"),
        ("json_schema", '{"type": "string", "minLength": 5, "maxLength": 2}', "minLength"),
        ("json_schema", '{"type": "object", "required": ["a"], "additionalProperties": false}', "'a'"),
        ("json_schema", '{"items": ' * 2000 + "{}" + "}" * 2000, "deep"),
        ("json_schema", '{"items": ' * 150 + "{}" + "}" * 150, "recursion"),
        ("json_schema", '{"$ref": "#"}', "cannot be honoured"),
        ("json_schema", " " * 2_000_000, "allowed"),
        ("gbnf", "root ::= root", "cannot be honoured"),
        ("gbnf", 'root ::= "a', "not valid"),
        ("gbnf", "root ::= missing", "missing"),
        ("regex", "[a", "unclosed"),
        ("regex", "(?=a)", "look-a"),
        ("lark", 'start: "a', "lexer"),
        ("lark", 'start: "a" <made_up>', "made_up"),
        ("xml", "<a/>", "Unknown kind"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_reason(kind: str, text: str, reason: str) -> None:
    with pytest.raises(InvalidGrammar) as caught:
        COMPILER.compile(kind, text)
    assert reason in caught.value.message
    assert caught.value.hint


def test_grammar_that_turns_out_too_complex_fails_and_does_not_end_the_turn() -> None:
    constraint = COMPILER.compile("gbnf", 'root ::= "a"{1000000000}')
    with pytest.raises(InvalidGrammar, match="Too many items"):
        constraint.accept(ord("a"))
    with pytest.raises(InvalidGrammar, match="Too many items"):
        _allowed(constraint, VOCAB)
    assert not constraint.is_complete
    assert not constraint.allows(END)


def test_property_named_like_a_keyword_is_no_keyword() -> None:
    schema = '{"type": "object", "properties": {"not": {"const": {"if": 1}}}, "required": ["not"]}'
    assert COMPILER.compile("json_schema", schema).n_allowed(list(b'{"not":{"if":1}}')) == 16


def test_true_allows_any_json() -> None:
    assert COMPILER.compile("json_schema", "true").n_allowed(list(b'[1,{"a":null}]')) == 14


def test_misspelling_tokenizer_does_not_lead_astray() -> None:
    class Prefixing(ByteVocab):
        def tokenize(self, text: str) -> list[int]:
            return [ord(" "), *text.encode()]

    vocab = Prefixing()
    written = _walk(GrammarCompiler(vocab), vocab, "regex", "forced text", random.Random(0))
    assert written == b"forced text"
