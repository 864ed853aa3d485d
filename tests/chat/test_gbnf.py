from __future__ import annotations

import pytest

from localllm.chat.gbnf import gbnf_to_lark
from localllm.chat.grammar import GrammarCompiler
from localllm.errors import InvalidGrammar
from tests.chat.vocabularies import END, ByteVocab

COMPILER = GrammarCompiler(ByteVocab())

JSON = r"""
# llama.cpp's grammars/json.gbnf
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""


def _matches(grammar: str, text: str) -> bool:
    tokens = [*text.encode(), END]
    return COMPILER.compile("gbnf", grammar).n_allowed(tokens) == len(tokens)


@pytest.mark.parametrize(
    ("grammar", "matching", "other"),
    [
        (r'root ::= "\u00e9ab"', "éab", "\ue9ab"),
        (r'root ::= "\u0041bc"', "Abc", "䆼"),
        (r'root ::= "\xe9\U0001F600"', "é😀", "é"),
        (r"root ::= [\u00e9-\u00ff]", "ê", "a"),
        (r"root ::= [a&&b]", "&", "c"),
        (r"root ::= [a~~b]", "~", "c"),
        (r"root ::= [a-c-]", "-", "d"),
        (r"root ::= [^^\]]", "a", "^"),
        (r"root ::= [\]\[/-]", "]", "a"),
        ("root ::= [^a]", "\n", "a"),
        ("root ::= .", "\n", ""),
        (r'root ::= "a/b\\\"\n"', 'a/b\\"\n', "a"),
        ('root ::= "x" # "y"\n', "x", "y"),
        ('root ::= "# no comment"', "# no comment", "#"),
        ('start ::= "a"\nroot ::= start "b"', "ab", "a"),
        ('root ::= a-b*\na-b ::= [0-9]{2,3} "::="', "12::=345::=", "1::="),
        ('root ::= "a" | "" ("b"\n| "c")+', "bcb", "ab"),
        ('root ::= ("a"+)? ("b"{2}){2} ( [0-9]* )*', "abbbb12", "abb"),
        ('root ::= "${x} %ignore <end>"', "${x} %ignore <end>", "$"),
    ],
)
def test_grammar_means_what_it_means_to_llama_cpp(grammar: str, matching: str, other: str) -> None:
    assert _matches(grammar, matching)
    assert not _matches(grammar, other)


def test_json_grammar_of_llama_cpp_reads_json() -> None:
    assert _matches(JSON, '{"a": [1.5, true, {"é": "\\u00e9\\n"}], "b": null}')
    assert not _matches(JSON, '{"a": tru}')
    assert not _matches(JSON, "[1]")


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "x",
        'x ::= "a"',
        "root ::= y",
        'root ::= "a',
        "root ::= [a",
        'root ::= ("a"',
        'root ::= "a" )',
        r'root ::= "\q"',
        r'root ::= "\ud800"',
        r'root ::= "\U00110000"',
        'root ::= "a"\nroot ::= "b"',
        "root ::= " + "(" * 3000 + '"a"' + ")" * 3000,
    ],
)
def test_invalid_grammar_is_refused(grammar: str) -> None:
    with pytest.raises(InvalidGrammar) as caught:
        gbnf_to_lark(grammar)
    assert caught.value.hint
