"""llama.cpp's GBNF grammars, as the Lark grammars that llguidance reads.

llguidance brings a converter, which reads some characters wrongly: escapes of four and eight digits lose
their leading zeros, `[a&&b]` becomes an intersection, `("a"+)?` loses its parentheses, and of two rules of
one name the first is dropped. So the text is first respelled in forms that mean the same to both, and two
rules of one name are refused.
"""

from __future__ import annotations

import re

from localllm.errors import InvalidGrammar

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\r\n]*)
    | "(?P<literal>(?:\\.|[^"\\])*)"
    | \[(?P<negated>\^?)(?P<members>(?:\\.|[^\]\\])*)\]
    | (?P<name>[\w-]+)(?P<defines>[ \t]*::=)?
    | (?P<group>\()
    | (?P<any>\.)""",
    re.VERBOSE | re.DOTALL,
)
_CHARACTER = re.compile(
    r"""\\(?:x(?P<x>[0-9a-fA-F]{2}) | u(?P<u>[0-9a-fA-F]{4}) | U(?P<U>[0-9a-fA-F]{8})
        | (?P<named>["\\\[\]nrt-]))
    | (?P<plain>[^\\])""",
    re.VERBOSE | re.DOTALL,
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_HINT = "See llama.cpp's grammars/README.md for the notation."
_RESERVED_NAME = "start"


def gbnf_to_lark(text: str) -> str:
    """Return the Lark grammar of a GBNF grammar.

    Raises:
        InvalidGrammar: it is not GBNF.
    """
    from llguidance.gbnf_to_lark import gbnf_to_lark as convert

    names: set[str] = set()

    def respell(token: re.Match[str]) -> str:
        return _respell(token, names)

    try:
        return convert(_TOKEN.sub(respell, text))
    except InvalidGrammar:
        raise
    except RecursionError:
        raise InvalidGrammar("The GBNF grammar is nested too deeply.", hint=_HINT) from None
    except Exception as error:
        # The converter raises bare Exceptions for rules that are missing.
        raise InvalidGrammar(f"The GBNF grammar is not valid: {error}.", hint=_HINT) from error


def _respell(token: re.Match[str], names: set[str]) -> str:
    if token["literal"] is not None:
        return '"' + "".join(map(_spelled, _characters(token["literal"]))) + '"'
    if token["members"] is not None:
        return f"[{token['negated']}{_members(token['members'])}]"
    if token["group"]:
        # An empty string keeps the parentheses: the converter writes `("a"+)?` as `"a"+?` otherwise.
        return '("" '
    if token["any"]:
        # A dot of GBNF matches line feeds too, unlike one of Lark.
        return r"[^\x00]"
    if token["name"]:
        return _name(token, names)
    return ""


def _name(token: re.Match[str], names: set[str]) -> str:
    name = token["name"]
    if token["defines"]:
        if name in names:
            raise InvalidGrammar(f"The GBNF grammar defines the rule {name!r} twice.", hint="Join them with |.")
        names.add(name)
    # The converter calls the root rule "start".
    spelled = "start-as-named" if name == _RESERVED_NAME else name
    return spelled + (token["defines"] or "")


def _members(members: str) -> str:
    """Return the members of a character class; a minus sign between two of them makes a range."""
    pieces = [(match.group() == "-", _character(match)) for match in _matches(members)]
    spelled = []
    for index, (is_minus, character) in enumerate(pieces):
        is_range = is_minus and 0 < index < len(pieces) - 1
        spelled.append("-" if is_range else _spelled(character))
    return "".join(spelled)


def _characters(text: str) -> list[str]:
    return [_character(match) for match in _matches(text)]


def _matches(text: str) -> list[re.Match[str]]:
    matches = list(_CHARACTER.finditer(text))
    if sum(len(match.group()) for match in matches) != len(text):
        raise InvalidGrammar(f"The GBNF grammar has an unknown escape in {text[:40]!r}.", hint=_HINT)
    return matches


def _character(match: re.Match[str]) -> str:
    digits = match["x"] or match["u"] or match["U"]
    if digits:
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise InvalidGrammar(f"The GBNF grammar has {match.group()}, which is no character.", hint=_HINT)
        return chr(code)
    return _NAMED.get(match["named"], match["named"]) if match["named"] else match["plain"]


def _spelled(character: str) -> str:
    if character.isascii() and not character.isalnum():
        return f"\\x{ord(character):02x}"
    return character
